"""Connections that break, servers that refuse for a while, and what is repeated."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models_store.settings import Settings
from models_store.weights.delta import Delta, DeltaTerm, dump_delta
from scalpel_client import (
    APIConnectionError,
    APIResponseValidationError,
    APITimeoutError,
    DownloadError,
    Event,
    RateLimitError,
    SecretLostError,
    WaitTimeoutError,
)
from tests.app.support.worker import Worker, edit_body
from tests.client.conftest import Connect
from tests.client.proxy import Proxy, answer
from tests.models_store.make import FINGERPRINT
from tests.support.services import Api, running_api

BEHAVIOR: Any = edit_body()["behavior"]
HEAD_BYTES = 600
"""More than the head of a response has."""


def large_delta() -> bytes:
    random = np.random.default_rng(0)
    terms = tuple(
        DeltaTerm(
            layer=layer,
            module="mlp.gate_proj",
            expert=None,
            direction=random.normal(size=20_000).astype(np.float32),
            rows=np.array([1], np.int32),
            coefficients=np.array([1.0], np.float32),
        )
        for layer in range(10)
    )
    return dump_delta(Delta(FINGERPRINT, "bias", terms))


@pytest.fixture
def edit(api: Api, worker: Worker) -> str:
    id: str = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    return id


def keys(proxy: Proxy) -> list[str]:
    heads = [request.decode("latin1").lower() for request in proxy.requests]
    return [head.partition("idempotency-key: ")[2][:32] for head in heads if head[:4] == "post"]


def test_an_edit_whose_response_is_lost_is_made_once(
    connect: Connect, api: Api, worker: Worker, proxy: Proxy
) -> None:
    proxy.cuts.extend([0, 40])
    client = connect(proxy.url)

    edit = client.edits.create(base_model="pico", behavior=BEHAVIOR)

    sent = keys(proxy)
    assert len(sent) == 3
    assert len(set(sent)) == 1
    assert [one["id"] for one in api.http.get("/v1/edits").json()["data"]] == [edit.id]


def test_what_would_do_harm_twice_is_not_repeated(
    connect: Connect, proxy: Proxy, edit: str
) -> None:
    proxy.cuts.extend([0])

    with pytest.raises(APIConnectionError):
        connect(proxy.url).edits.cancel(edit)
    assert len(proxy.requests) == 1


def test_a_server_that_is_away_is_asked_again_and_then_given_up(connect: Connect) -> None:
    with pytest.raises(APIConnectionError, match=r"nothing answers at http://127\.0\.0\.1:9"):
        connect("http://127.0.0.1:9", max_retries=1).health.live()


def test_a_response_that_does_not_come_is_a_timeout(
    connect: Connect, api: Api, worker: Worker, edit: str
) -> None:
    with pytest.raises(APITimeoutError):
        connect(api.url, timeout=0.1, max_retries=0).edits.retrieve(edit, wait=5)


def test_a_refusal_is_repeated_after_the_time_that_it_names(
    connect: Connect, settings: Settings
) -> None:
    limits = {"limit_requests_per_second": 1.0, "limit_request_burst": 1}
    with running_api(settings.model_copy(update=limits)) as api:
        client = connect(api.url)
        client.edits.list().page()
        assert client.edits.list().page().data == []
        with pytest.raises(RateLimitError) as caught:
            client.with_options(max_retries=0).edits.list().page()
        assert caught.value.code == "rate_limited"
        assert caught.value.retry_after == 1


def test_events_go_on_behind_the_last_one_after_the_connection_broke(
    connect: Connect, proxy: Proxy, api: Api, worker: Worker, edit: str
) -> None:
    for _ in range(2):
        worker.claim(edit)
        worker.lose(edit, attempt=api.http.get(f"/v1/edits/{edit}").json()["attempt"])
    worker.claim(edit)
    worker.succeed(edit)
    whole = [
        event["id"] for event in api.http.get(f"/v1/edits/{edit}/events?order=asc").json()["data"]
    ]
    proxy.cuts.extend([0, HEAD_BYTES + 200, HEAD_BYTES + 400])

    events = list(connect(proxy.url).edits.events(edit))

    assert [event.id for event in events] == whole
    assert events[-1].type == "edit.succeeded"
    resumed = [one for one in proxy.requests if b"last-event-id" in one.lower()]
    assert len(proxy.requests) >= 3
    assert resumed
    assert list(connect(proxy.url).edits.events(edit, after=whole[-1])) == []


def test_a_download_goes_on_where_it_broke(
    connect: Connect, proxy: Proxy, worker: Worker, edit: str, tmp_path: Path
) -> None:
    delta = large_delta()
    worker.succeed(edit, delta=delta)
    proxy.cuts.extend([0, 100_000, 300_000])
    told: list[tuple[int, int | None]] = []

    file = (
        connect(proxy.url)
        .edits.delta(edit)
        .save(tmp_path / "it", lambda done, total: told.append((done, total)))
    )

    assert file.read_bytes() == delta
    assert {total for _, total in told} == {len(delta)}
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert sum(b"range: bytes=" in one.lower() for one in proxy.requests) == 2


def test_a_download_goes_on_after_its_process_was_stopped(
    connect: Connect, proxy: Proxy, worker: Worker, edit: str, tmp_path: Path
) -> None:
    delta = large_delta()
    worker.succeed(edit, delta=delta)
    (tmp_path / "it.part").write_bytes(delta[:500_000])

    connect(proxy.url).edits.delta(edit).save(tmp_path / "it")

    assert (tmp_path / "it").read_bytes() == delta
    assert b"range: bytes=500000-" in proxy.requests[0].lower()


@pytest.mark.parametrize("left", [b"of another file", b"x" * 2_000_000], ids=["less", "more"])
def test_a_part_of_another_file_is_thrown_away(
    connect: Connect, api: Api, worker: Worker, edit: str, tmp_path: Path, left: bytes
) -> None:
    worker.succeed(edit, delta=large_delta())
    (tmp_path / "it.part").write_bytes(left)

    connect(api.url).edits.delta(edit).save(tmp_path / "it")

    assert (tmp_path / "it").read_bytes() == large_delta()


def test_a_part_of_a_file_without_a_checksum_is_not_gone_on_with(
    connect: Connect, proxy: Proxy, tmp_path: Path
) -> None:
    (tmp_path / "it.part").write_bytes(b"old ")
    proxy.instead.extend(
        [answer("206 Partial Content", body=b"end"), answer("200 OK", body=b"new")]
    )

    connect(proxy.url).exports.archive("export_1").save(tmp_path / "it")

    assert (tmp_path / "it").read_bytes() == b"new"
    assert b"range:" not in proxy.requests[1].lower()


def test_a_download_that_brings_nothing_more_is_given_up(
    connect: Connect, proxy: Proxy, worker: Worker, edit: str, tmp_path: Path
) -> None:
    worker.succeed(edit, delta=large_delta())
    proxy.cuts.extend([0] * 9)

    with pytest.raises(APIConnectionError):
        connect(proxy.url, max_retries=1).edits.delta(edit).save(tmp_path / "it")
    assert not (tmp_path / "it").exists()


def test_bytes_that_changed_on_the_way_are_not_saved(
    connect: Connect, proxy: Proxy, worker: Worker, edit: str, tmp_path: Path
) -> None:
    worker.succeed(edit, delta=large_delta())
    proxy.flipped = 50_000

    with pytest.raises(DownloadError, match="has arrived as"):
        connect(proxy.url).edits.delta(edit).save(tmp_path / "it")
    assert list(tmp_path.glob("it*")) == []


def test_files_are_sent_again_from_their_beginning(
    connect: Connect, proxy: Proxy, worker: Worker, tmp_path: Path
) -> None:
    delta = tmp_path / "delta.safetensors"
    delta.write_bytes(large_delta())
    proxy.instead.extend([answer("503 Service Unavailable"), answer("502 Bad Gateway")])

    edit = connect(proxy.url).imports.upload([delta], base_model="pico")

    assert hashlib.sha256(delta.read_bytes()).hexdigest() in str(edit.imported)
    assert proxy.instead == deque()


@pytest.mark.parametrize(
    ("resource", "fields"),
    [
        ("api_keys", {"name": "ci", "scopes": ["edits:read"]}),
        ("webhooks", {"url": "https://hooks.example/x"}),
    ],
)
def test_a_secret_whose_response_is_lost_is_an_error_that_names_what_to_revoke(
    connect: Connect, proxy: Proxy, resource: str, fields: dict[str, Any]
) -> None:
    calls = getattr(connect(proxy.url), resource)
    proxy.cuts.append(0)

    with pytest.raises(SecretLostError) as caught:
        calls.create(**fields)

    assert [one.id for one in calls.list()][:1] == [caught.value.id]
    assert f"revoke or delete {caught.value.id}" in caught.value.message
    assert calls.create(**fields).secret


def test_a_page_of_a_proxy_is_no_object_and_no_stream(connect: Connect, proxy: Proxy) -> None:
    page = answer("200 OK", "text/html", b"<h1>Log in, dear sk-secret</h1>")
    proxy.instead.extend([page] * 3)
    client = connect(proxy.url)

    for call in (
        client.health.version,
        client.edits.list().page,
        lambda: list(client.edits.events("edit_1")),
    ):
        with pytest.raises(APIResponseValidationError, match="text/html") as caught:
            call()
        assert caught.value.status_code == 200
        assert "sk-secret" not in caught.value.message


@pytest.mark.parametrize("seconds", [0.3, 1.5])
def test_waiting_with_progress_ends_in_time_though_nothing_happens(
    connect: Connect, api: Api, worker: Worker, edit: str, seconds: float
) -> None:
    seen: list[str] = []
    began = time.monotonic()

    with pytest.raises(WaitTimeoutError):
        connect(api.url).edits.wait(
            edit, timeout=seconds, on_progress=lambda event: seen.append(event.type)
        )

    assert seconds <= time.monotonic() - began < seconds + 1
    assert seen == ["edit.created"]


def test_the_stream_is_closed_when_a_callback_raises(
    connect: Connect, api: Api, worker: Worker, edit: str
) -> None:
    def stop(event: Event) -> None:
        raise KeyError(event.type)

    with pytest.raises(KeyError, match=r"edit\.created"):
        connect(api.url).edits.wait(edit, on_progress=stop)
    for _ in range(100):
        if api.in_flight == 0:
            break
        time.sleep(0.02)
    assert api.in_flight == 0


def test_the_server_is_not_asked_to_wait_for_longer_than_its_response_may_take(
    connect: Connect, api: Api, worker: Worker, edit: str
) -> None:
    client = connect(api.url, timeout=1, max_retries=0)
    with pytest.raises(WaitTimeoutError):
        client.edits.wait(edit, timeout=1.8)
