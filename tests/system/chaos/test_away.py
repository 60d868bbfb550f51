"""Redis or the store is away, or hangs: every response comes in time and names what is missing."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import httpx
import pytest

from tests.system.chaos.conftest import S3_TIMEOUT_SECONDS, Outage
from tests.system.chaos.s3_proxy import Trouble

pytestmark = [pytest.mark.system, pytest.mark.slow]

REDIS_BOUND_SECONDS = 8.0
"""A request uses Redis at most twice, with two tries of a second each."""
STORE_BOUND_SECONDS = 2 * S3_TIMEOUT_SECONDS + 6.0


@contextmanager
def redis_away(outage: Outage, how: Literal["hangs", "is gone"]) -> Iterator[None]:
    pid = outage.stack.pid("redis")
    assert pid is not None
    if how == "is gone":
        outage.stack.held.add("redis")
    os.kill(pid, signal.SIGKILL if how == "is gone" else signal.SIGSTOP)
    try:
        yield
    finally:
        outage.stack.held.clear()
        if how == "hangs":
            os.kill(pid, signal.SIGCONT)


@contextmanager
def store_away(outage: Outage, trouble: Trouble) -> Iterator[None]:
    outage.s3.trouble = trouble
    try:
        yield
    finally:
        outage.s3.trouble = None


def timed(bound: float, http: httpx.Client, method: str, path: str) -> httpx.Response:
    """The response, which must come within `bound` seconds and not be a 500."""
    began = time.monotonic()
    response = http.request(method, path)
    taken = time.monotonic() - began
    assert taken < bound, f"{method} {path} took {taken:.1f} s"
    assert response.status_code != 500, response.text
    return response


def parts(readiness: httpx.Response) -> dict[str, str]:
    return {name: part["status"] for name, part in readiness.json()["parts"].items()}


def stream(outage: Outage, id: str) -> list[str]:
    """The types of the events of a stream, up to its end."""
    headers = {"Accept": "text/event-stream"}
    with outage.http.stream("GET", f"/v1/edits/{id}/events", headers=headers) as response:
        assert response.status_code == 200
        return [line[7:] for line in response.iter_lines() if line.startswith("event: ")]


@pytest.mark.parametrize("how", ["hangs", pytest.param("is gone", marks=pytest.mark.long)])
def test_without_redis_reading_goes_on_and_what_is_submitted_is_done_later(
    outage: Outage, how: Literal["hangs", "is gone"]
) -> None:
    before = outage.ended(outage.submit().json()["id"])
    api = outage.stack.pid("api")
    http, id = outage.http, before["id"]
    with redis_away(outage, how):
        assert timed(REDIS_BOUND_SECONDS, http, "GET", f"/v1/edits/{id}").json() == before
        assert timed(REDIS_BOUND_SECONDS, http, "GET", "/v1/edits").json()["data"]
        assert stream(outage, str(id))[-1] == "edit.succeeded"
        made = outage.submit(**{"Idempotency-Key": f"away-{how}"})
        assert made.status_code == 201
        queued = made.json()["id"]
        again = outage.submit(**{"Idempotency-Key": f"away-{how}"})
        assert (again.status_code, again.json()["id"]) == (201, queued)
        waited = timed(REDIS_BOUND_SECONDS + 1, http, "GET", f"/v1/edits/{queued}?wait=1")
        assert waited.json()["status"] == "queued"
        events = timed(REDIS_BOUND_SECONDS, http, "GET", f"/v1/edits/{queued}/events").json()[
            "data"
        ]
        assert [event["type"] for event in events] == ["edit.created"]
        readiness = timed(REDIS_BOUND_SECONDS, http, "GET", "/readyz")
        assert readiness.status_code == 200
        assert (parts(readiness)["redis"], parts(readiness)["store"]) == ("missing", "ok")
        everything = timed(REDIS_BOUND_SECONDS, http, "GET", "/readyz?require=all")
        assert everything.status_code == 503
    assert outage.ended(queued)["status"] == "succeeded"
    assert outage.stack.pid("api") == api, "it came back without a restart"


def test_a_wait_and_a_stream_see_the_end_of_an_edit_while_redis_hangs(outage: Outage) -> None:
    id = outage.submit(prompts=50).json()["id"]
    limit = time.monotonic() + 60
    while outage.http.get(f"/v1/edits/{id}").json()["status"] == "queued":
        assert time.monotonic() < limit
        time.sleep(0.1)
    seen: list[str] = []
    follower = threading.Thread(target=lambda: seen.extend(stream(outage, id)))
    with redis_away(outage, "hangs"):
        follower.start()
        assert outage.ended(id)["status"] == "succeeded"
        follower.join(20)
    assert seen[-1] == "edit.succeeded"
    outage.stack.wait_until_ready()


@pytest.mark.parametrize("trouble", ["silent", pytest.param("cut", marks=pytest.mark.long)])
def test_without_the_store_every_response_is_a_quick_503_and_all_comes_back(
    outage: Outage, trouble: Trouble
) -> None:
    edit = outage.ended(outage.submit().json()["id"])
    api = outage.stack.pid("api")
    key = {"Idempotency-Key": f"store-{trouble}"}
    http, path = outage.http, f"/v1/edits/{edit['id']}"
    with store_away(outage, trouble):
        for method, where in (
            ("GET", path),
            ("GET", f"{path}?wait=1"),
            ("GET", "/v1/edits"),
            ("GET", f"{path}/delta"),
            ("POST", f"{path}/cancel"),
        ):
            response = timed(STORE_BOUND_SECONDS, http, method, where)
            assert (response.status_code, response.json()["code"]) == (503, "store_unavailable"), (
                where
            )
            assert int(response.headers["Retry-After"]) > 0
        refused = outage.submit(**key)
        assert refused.status_code == 503, refused.text
        readiness = timed(STORE_BOUND_SECONDS, http, "GET", "/readyz")
        assert readiness.status_code == 503
        assert (parts(readiness)["redis"], parts(readiness)["store"]) == ("ok", "missing")
        assert timed(2.0, http, "GET", "/healthz").status_code == 200
    assert outage.http.get(path).json() == edit
    made = outage.submit(**key)
    assert made.status_code == 201
    assert outage.ended(made.json()["id"])["status"] == "succeeded"
    assert outage.stack.pid("api") == api, "it came back without a restart"


def test_many_requests_to_a_store_that_hangs_do_not_queue_up(outage: Outage) -> None:
    taken: list[float] = []

    def request_edits() -> None:
        with outage.stack.client(60) as http:
            began = time.monotonic()
            assert http.get("/v1/edits").status_code == 503
            taken.append(time.monotonic() - began)

    with store_away(outage, "silent"):
        threads = [threading.Thread(target=request_edits) for _ in range(100)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        assert timed(2.0, outage.http, "GET", "/healthz").status_code == 200
        for thread in threads:
            thread.join()
    assert len(taken) == 100
    assert max(taken) < 2 * STORE_BOUND_SECONDS, json.dumps(sorted(taken)[-5:])
    outage.stack.wait_until_ready()
