"""What a tenant may have under way at a time, and what becomes of streams whose key is revoked."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.domain.accounts.api_keys import digest_of
from app.domain.accounts.in_flight import InFlight
from app.domain.events import watchers
from models_store.errors import QuotaExceeded
from models_store.settings import Settings
from tests.app.support.generator import FakeGenerator, running_generator
from tests.app.support.worker import Worker, edit_body
from tests.support.services import Api, running_api

STREAM = {"Accept": "text/event-stream"}


def test_what_is_under_way_is_bounded_for_each_tenant_and_freed_at_its_end() -> None:
    bounds = InFlight(Settings(max_body_bytes=2000))
    with bounds.hold("a", "body-bytes", 1500):
        with pytest.raises(QuotaExceeded, match="1,500 bytes of request bodies") as refused:
            bounds.hold("a", "body-bytes", 501).__enter__()
        assert refused.value.code == "rate_limited"
        with bounds.hold("a", "body-bytes", 500), bounds.hold("b", "body-bytes", 2000):
            pass
        with bounds.hold("a", "streams"):
            pass
    with contextlib.suppress(ZeroDivisionError), bounds.hold("a", "body-bytes", 2000):
        raise ZeroDivisionError
    # What nobody else waits for is let in, however large: the limit of a body has its own error.
    with bounds.hold("a", "body-bytes", 5000):
        pass
    assert not bounds._held


@pytest.fixture
def small(settings: Settings) -> Iterator[Api]:
    with running_api(settings.model_copy(update={"max_body_bytes": 50_000})) as api:
        Worker(api.store, api.services.live.client).register("pico")
        yield api


def begun_body(api: Api, size: int) -> socket.socket:
    """A request whose body never comes."""
    place = urlsplit(api.url)
    connection = socket.create_connection((place.hostname or "", place.port or 0), timeout=20)
    head = f"POST /v1/edits HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {size}\r\n\r\n{{".encode())
    return connection


def test_bodies_that_never_come_keep_their_own_tenant_waiting_alone(small: Api) -> None:
    with contextlib.closing(begun_body(small, 49_000)):
        answer = None
        for _ in range(100):
            answer = small.http.post("/v1/edits", json=edit_body())
            if answer.status_code == 429:
                break
            time.sleep(0.05)
        assert answer is not None
        assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
        assert answer.headers["Retry-After"] == "1"
        assert small.http.get("/v1/edits").status_code == 200
    for _ in range(100):
        if small.http.post("/v1/edits", json=edit_body()).status_code == 201:
            return
        time.sleep(0.05)
    pytest.fail("what a client that has left held is not freed")


def test_many_streams_of_an_edit_look_at_it_as_often_as_one(
    api: Api, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    own = watchers.EditWatcher._look

    def noted(self: watchers.EditWatcher) -> None:
        looks.append(time.monotonic())
        own(self)

    monkeypatch.setattr(watchers.EditWatcher, "_look", noted)
    edit = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    began = time.monotonic()
    seen: list[bytes] = []

    def follow() -> None:
        path = f"/v1/edits/{edit}/events"
        with api.http.stream("GET", path, headers=STREAM) as answer:
            seen.append(answer.read())

    threads = [threading.Thread(target=follow) for _ in range(20)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    api.http.post(f"/v1/edits/{edit}/cancel").raise_for_status()
    for thread in threads:
        thread.join()
    assert len(seen) == 20
    assert all(b"edit.canceled" in text for text in seen)
    # Each also looks when it begins after the last look of those before it.
    assert len(looks) <= (time.monotonic() - began) / watchers.LOOK_SECONDS + 2
    assert not api.services.watchers._watchers


def test_more_under_way_than_may_be_is_refused(api: Api, worker: Worker) -> None:
    edit = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    calls = {
        "streams": lambda: api.http.get(f"/v1/edits/{edit}/events", headers=STREAM),
        "waits": lambda: api.http.get(f"/v1/edits/{edit}?wait=5"),
        "downloads": lambda: api.http.get(f"/v1/edits/{edit}/delta"),
        "estimates": lambda: api.http.post("/v1/edits/estimate", json=edit_body()),
        "drafts": lambda: api.http.post(
            "/v1/behaviors/draft", json={"base_model": "pico", "sentence": "be kinder to people"}
        ),
        "canaries": lambda: api.http.post(
            "/v1/exports/exp_1/canary", json={"url": "https://models.invalid", "model": "m"}
        ),
    }
    for kind, call in calls.items():
        bounds = api.services.in_flight
        with bounds.hold("default", kind, bounds._most[kind]):  # type: ignore[arg-type, index]
            answer = call()
        assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited"), kind
        assert "under way" in answer.json()["detail"]


@pytest.fixture
def locked(settings: Settings) -> Iterator[tuple[Api, FakeGenerator]]:
    with (
        running_api(settings.model_copy(update={"auth": "keys"})) as api,
        running_generator() as one,
    ):
        Worker(api.store, api.services.live.client).register("pico")
        one.beat(api.services.live.client)
        yield api, one


def test_beyond_the_bound_no_body_is_read(api: Api) -> None:
    bounds = api.services.in_flight
    with bounds.hold("default", "estimates", bounds._most["estimates"]):
        answer = api.http.post(
            "/v1/edits/estimate", content="{", headers={"Content-Type": "application/json"}
        )
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")


def test_large_echoes_of_one_tenant_are_bounded_together(locked: tuple[Api, FakeGenerator]) -> None:
    api, _ = locked
    secret, _ = api.store.keys.create(name="echoing")
    prompts = [[7] * 100] * 100
    ask = {"model": "pico", "prompt": prompts, "echo": True, "logprobs": 20, "max_tokens": 1}

    def asked(**changes: Any) -> int:
        headers = {"Authorization": f"Bearer {secret}"}
        return api.http.post(
            "/v1/completions", json={**ask, **changes}, headers=headers
        ).status_code

    assert asked() == 200
    with api.services.in_flight.hold("default", "scores", 2**19 - 21 * 100 * 100 + 1):
        assert asked() == 429
        assert asked(logprobs=19) == 200
        assert asked(echo=False) == 200
    assert not api.services.in_flight._held


def test_a_revoked_key_ends_its_streams_within_five_seconds(
    locked: tuple[Api, FakeGenerator],
) -> None:
    api, generator = locked
    secret, _ = api.store.keys.create(name="leaving")
    headers = {"Authorization": f"Bearer {secret}"}
    edit = api.http.post("/v1/edits", json=edit_body(), headers=headers).json()["id"]
    generator.pause = 0.2
    generator.answer = lambda asked: [
        {"type": "delta", "index": 0, "text": "and so on "} for _ in range(500)
    ]
    ask = {"model": "pico", "prompt": "a", "stream": True, "max_tokens": 100}
    events = api.http.stream("GET", f"/v1/edits/{edit}/events", headers={**headers, **STREAM})
    words = api.http.stream("POST", "/v1/completions", json=ask, headers=headers)
    with events as first, words as second:
        told, said = first.iter_bytes(), second.iter_bytes()
        next(told), next(said)
        state = api.store.keys.find_digest(digest_of(secret))
        assert state is not None
        api.store.keys.revoke(state)
        revoked = time.monotonic()
        rest = b"".join(said)
        b"".join(told)
        assert time.monotonic() - revoked < 5
    assert b"no longer valid" in rest
    assert b"[DONE]" not in rest
    assert generator.broken_off.wait(5)


def test_a_body_of_no_stated_length_counts_as_it_comes(small: Api) -> None:
    def pieces() -> Iterator[bytes]:
        yield json.dumps(edit_body()).encode()

    headers = {"Content-Type": "application/json"}
    with small.services.in_flight.hold("default", "body-bytes", 30_000):
        answer = small.http.post("/v1/edits", content=pieces(), headers=headers)
    assert answer.status_code == 201
