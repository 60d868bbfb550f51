"""SIGTERM: running work is finished or returned to the queue, and clients are notified."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from tests.system.chaos.conftest import Outage
from tests.system.chaos.stack import DRAIN_SECONDS, GENERATOR_DRAIN_SECONDS
from tests.system.faults.edits import edit_body

pytestmark = [pytest.mark.system, pytest.mark.slow]


def terminate(outage: Outage, name: str) -> psutil.Process:
    """Send SIGTERM to a process, which is not restarted for now."""
    pid = outage.stack.pid(name)
    assert pid is not None
    outage.stack.held.add(name)
    os.kill(pid, signal.SIGTERM)
    return psutil.Process(pid)


def seconds_to_end(process: psutil.Process, began: float) -> float:
    gone, _ = psutil.wait_procs([process], timeout=4 * DRAIN_SECONDS)
    assert gone, "it does not end"
    return time.monotonic() - began


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def running(outage: Outage) -> str:
    """An edit that runs, for some more seconds."""
    id = outage.submit(prompts=150).json()["id"]
    limit = time.monotonic() + 60
    # Not only claimed: there must be something to return to the queue.
    while outage.http.get(f"/v1/edits/{id}").json()["stage"] is None:
        assert time.monotonic() < limit
        time.sleep(0.1)
    return str(id)


def test_an_api_that_drains_finishes_its_requests_and_sends_streams_elsewhere(
    outage: Outage,
) -> None:
    id = running(outage)
    responses: dict[str, Any] = {}

    def stream() -> None:
        headers = {"Accept": "text/event-stream"}
        with outage.stack.client(60) as http:
            url = f"/v1/edits/{id}/events"
            with http.stream("GET", url, headers=headers) as response:
                responses["stream"] = response.read().decode()

    def wait() -> None:
        with outage.stack.client(60) as http:
            responses["wait"] = http.get(f"/v1/edits/{id}", params={"wait": 60})

    threads = [in_thread(stream), in_thread(wait)]
    sent = json.dumps(edit_body()).encode()
    with socket.create_connection(("127.0.0.1", outage.stack.port), timeout=30) as slow:
        head = (
            "POST /v1/edits HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(sent)}\r\n\r\n"
        )
        slow.sendall(head.encode() + sent[:100])  # begun before the SIGTERM
        time.sleep(1.0)
        api, began = terminate(outage, "api"), time.monotonic()
        try:
            time.sleep(0.5)
            with pytest.raises(OSError, match="refused"):
                socket.create_connection(("127.0.0.1", outage.stack.port), timeout=5).close()
            slow.sendall(sent[100:])
            response = b"".join(iter(lambda: slow.recv(65536), b""))
            for thread in threads:
                thread.join(20)
            assert seconds_to_end(api, began) < DRAIN_SECONDS + 5
        finally:
            outage.stack.held.clear()
    assert response.startswith(b"HTTP/1.1 201"), response[:300]
    made = json.loads(response.partition(b"\r\n\r\n")[2])["id"]
    assert responses["stream"].endswith("retry: 2000\n\n")
    assert responses["wait"].status_code == 200
    assert responses["wait"].json()["status"] == "running", (
        "it is answered before the edit has ended"
    )
    outage.stack.wait_until_ready()
    assert outage.http.post(f"/v1/edits/{id}/cancel").json()["status"] == "canceled"
    assert outage.ended(made)["status"] == "succeeded"


def ends_of_attempts(outage: Outage, id: str) -> list[str]:
    events = outage.http.get(f"/v1/edits/{id}/events", params={"order": "asc"}).json()["data"]
    return [it["data"]["outcome"] for it in events if it["type"] == "edit.attempt_ended"]


def test_an_editor_that_drains_returns_its_edit_to_the_queue(outage: Outage) -> None:
    id = running(outage)
    ((child, editor),) = outage.stack.children()
    name = next(name for name in outage.stack.parts if outage.stack.pid(name) == editor)
    try:
        process, began = terminate(outage, name), time.monotonic()
        while not ends_of_attempts(outage, id):
            assert time.monotonic() < began + 10
            time.sleep(0.05)
        assert ends_of_attempts(outage, id) == ["handed_back"]
        seconds_to_end(process, began)
        assert not psutil.pid_exists(child)
    finally:
        outage.stack.held.clear()
    limit = time.monotonic() + 60
    while outage.http.get(f"/v1/edits/{id}").json()["attempt"] < 2:
        assert time.monotonic() < limit
        time.sleep(0.1)
    outage.http.post(f"/v1/edits/{id}/cancel").raise_for_status()
    outage.stack.wait_until_ready()


def completion(outage: Outage, lines: list[str], **changes: Any) -> None:
    body = {"model": "pico", "prompt": "the food", "temperature": 1, "stream": True, **changes}
    with (
        outage.stack.client(60) as http,
        http.stream("POST", "/v1/completions", json=body) as response,
    ):
        assert response.status_code == 200, response.read()
        for line in response.iter_lines():
            if line:
                lines.append(line.removeprefix("data: "))


def test_a_generator_that_drains_finishes_its_streams_or_ends_them_with_an_error(
    outage: Outage,
) -> None:
    short: list[str] = []
    # With the short one, as many rows as are decoded at a time, so that none waits for another.
    long: list[list[str]] = [[] for _ in range(4)]
    threads = [
        in_thread(lambda lines=lines: completion(outage, lines, max_tokens=480, n=15))  # type: ignore[misc]
        for lines in long
    ]
    limit = time.monotonic() + 60
    while not all(long):
        assert time.monotonic() < limit
        time.sleep(0.01)
    threads.append(in_thread(lambda: completion(outage, short, max_tokens=2)))
    while not short:
        assert time.monotonic() < limit
        time.sleep(0.01)
    generator, began = terminate(outage, "generator"), time.monotonic()
    try:
        for thread in threads:
            thread.join(4 * DRAIN_SECONDS)
        assert seconds_to_end(generator, began) < GENERATOR_DRAIN_SECONDS + 8
    finally:
        outage.stack.held.clear()
    assert short[-1] == "[DONE]"
    ends = [lines[-1] for lines in long]
    errors = [json.loads(end)["error"] for end in ends if end != "[DONE]"]
    assert errors, "there was time for all of them"
    assert {error["code"] for error in errors} == {"generation_failed"}
    assert "shutting down" in errors[0]["message"]
    outage.stack.wait_until_ready()
    response = outage.http.post("/v1/completions", json={"model": "pico", "prompt": "a"})
    assert response.status_code == 200
