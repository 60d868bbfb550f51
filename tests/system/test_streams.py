"""Many streams at once, readers that are slow, leave or are cut off, and prompts of bad kinds."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from app.domain.events.live_state import LiveState
from models_store.settings import Settings
from tests.support.local import local_client
from tests.system.conftest import SmolLM2Service
from tests.system.service import Service

pytestmark = [pytest.mark.system, pytest.mark.smollm2, pytest.mark.timeout(900)]

BASE = "smollm2-135m-instruct"
PROMPT = "The food at the new place was"


@pytest.fixture
def service(smollm2_service: SmolLM2Service) -> Service:
    return smollm2_service.service


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with service.client() as made:
        yield made


def body(**changes: Any) -> dict[str, Any]:
    asked = {"model": BASE, "prompt": PROMPT, "max_tokens": 8, "temperature": 0, "stream": True}
    return {**asked, **changes}


def events(text: str) -> list[Any]:
    said = [event.removeprefix("data: ") for event in text.split("\n\n") if event]
    return [event if event == "[DONE]" else json.loads(event) for event in said]


def text_of(said: list[Any]) -> str:
    return "".join(
        choice["text"] for event in said if event != "[DONE]" for choice in event["choices"]
    )


def generators(service: Service) -> list[int]:
    """Process ids of the service's generators."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has just ended
        if b"workers.generator" in command and parent == service.process.pid:
            found.append(int(folder.name))
    return found


def test_two_hundred_streams_at_once_are_all_answered(client: httpx.Client) -> None:
    models = [f"{BASE}:kinder@{place / 100:.2f}" for place in range(200)]

    def ask(model: str) -> str:
        with local_client(str(client.base_url), 300) as own:
            answer = own.post("/v1/completions", json=body(model=model, max_tokens=4))
        assert answer.status_code == 200, answer.text
        said = events(answer.text)
        assert said[-1] == "[DONE]"
        assert said[-2]["choices"][0]["finish_reason"] in ("stop", "length")
        return text_of(said)

    with ThreadPoolExecutor(200) as pool:
        texts = list(pool.map(ask, models))

    assert texts[0] == ask(BASE)
    assert texts[70] == ask(models[70])
    assert len(set(texts)) > 1


def test_a_reader_of_one_byte_a_second_holds_nobody_up(
    service: Service, client: httpx.Client
) -> None:
    address = urlsplit(service.url)
    asked = json.dumps(body(max_tokens=64, n=4, temperature=1, seed=1)).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(asked)}\r\n\r\n"
    )
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        slow.settimeout(300)
        slow.connect((address.hostname, address.port))
        slow.sendall(head.encode() + asked)
        read = b""
        for _ in range(3):
            read += slow.recv(1)
            time.sleep(1)
        quick = client.post("/v1/completions", json=body())
        assert events(quick.text)[-1] == "[DONE]"
        while piece := slow.recv(65536):
            read += piece
    assert read.startswith(b"HTTP/1.1 200")
    assert b"data: [DONE]" in read


def test_a_reader_that_leaves_stops_the_work(service: Service, client: httpx.Client) -> None:
    with client.stream("POST", "/v1/completions", json=body(max_tokens=2000, n=8)) as answer:
        next(answer.iter_lines())
    live = LiveState(Settings(data=service.data))
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        time.sleep(0.5)
        if [one.busy for one in live.generators() or ()] == [0]:
            return
    pytest.fail("eight rows of 2,000 tokens are decoded for nobody")


def test_a_generator_that_is_killed_in_a_stream_is_an_error_event_and_the_next_request_works(
    service: Service, client: httpx.Client
) -> None:
    with client.stream("POST", "/v1/completions", json=body(max_tokens=4000)) as answer:
        lines = answer.iter_lines()
        next(lines)
        for pid in generators(service):
            os.kill(pid, signal.SIGKILL)
        rest = [line for line in lines if line]
    assert json.loads(rest[-1].removeprefix("data: "))["error"]["code"] == "generation_failed"

    limit = time.monotonic() + 120
    while time.monotonic() < limit:
        answer = client.post("/v1/completions", json=body(stream=False))
        if answer.status_code == 200:
            break
        assert answer.status_code in (502, 503)
        time.sleep(0.5)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"prompt": ""}, 400, "invalid_request"),
        ({"prompt": []}, 400, "invalid_request"),
        ({"prompt": [5] * 9000}, 400, "context_length_exceeded"),
        ({"prompt": [10**7]}, 400, "invalid_request"),
    ],
)
def test_a_prompt_that_cannot_be_read_is_explained(
    client: httpx.Client, changes: dict[str, Any], status: int, code: str
) -> None:
    for stream in (True, False):
        answer = client.post("/v1/completions", json=body(**changes, stream=stream))
        assert answer.status_code == status, answer.text
        assert answer.json()["error"]["code"] == code


def test_text_comes_in_whole_characters_whatever_the_tokens_are(client: httpx.Client) -> None:
    # Tokens of a byte each make invalid UTF-8 likely.
    bias = dict.fromkeys(range(200, 300), 100)
    answer = client.post(
        "/v1/completions",
        json=body(max_tokens=40, temperature=2, seed=5, logit_bias=bias, logprobs=0),
    )
    said = events(answer.content.decode("utf-8"))
    assert said[-1] == "[DONE]"
    tokens = [
        token
        for event in said[:-1]
        for choice in event["choices"]
        if choice["logprobs"]
        for token in choice["logprobs"]["tokens"]
    ]
    assert len(tokens) == 40


def test_a_stop_string_across_tokens_is_not_shown(client: httpx.Client) -> None:
    whole = text_of(events(client.post("/v1/completions", json=body(max_tokens=24)).text))
    stop = whole[len(whole) // 3 : len(whole) // 3 + 9]
    said = events(client.post("/v1/completions", json=body(max_tokens=24, stop=stop)).text)
    assert text_of(said) == whole[: whole.index(stop)]
    assert said[-2]["choices"][0]["finish_reason"] == "stop"


def test_watching_strengths_streams_them_together(client: httpx.Client) -> None:
    asked = {"model": f"{BASE}:kinder", "strengths": [0, 0.37, 1], "prompt": PROMPT}
    said: list[tuple[str, Any]] = []
    with client.stream("POST", "/v1/compare", json={**asked, "max_tokens": 12}) as answer:
        kind = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line:
                said.append((kind, json.loads(line.removeprefix("data: "))))
    assert said[0][0] == "comparison.created"
    assert said[-1][0] == "comparison.completed"
    first_end = [kind for kind, _ in said].index("comparison.finished")
    spoken = {data["index"] for kind, data in said[:first_end] if kind == "comparison.delta"}
    assert spoken == {0, 1, 2}
