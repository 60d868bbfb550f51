"""Limits per tenant: over real HTTP, a real Redis and a real store."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.domain.accounts.limits import read_limits
from app.request.pagination import DEFAULT_LIMIT, PageQuery, page_by_id
from models_store.errors import InvalidRequest
from models_store.schemas.records import Marker
from models_store.settings import Settings
from tests.app.support.generator import running_generator
from tests.app.support.worker import Worker, edit_body, texts
from tests.support.services import Api, RedisServer, running_api, running_redis

GENEROUS = {"limit_requests_per_second": 10_000, "limit_request_burst": 10_000}


@pytest.fixture
def limited(settings: Settings, request: pytest.FixtureRequest) -> Iterator[Api]:
    """The API with the limits of the test, and `pico` registered."""
    given: dict[str, Any] = getattr(request, "param", {})
    changed = Settings(**{**settings.model_dump(), **given})
    with running_api(changed) as api:
        Worker(api.store, api.services.live.client).register("pico")
        yield api


def limits(**given: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("limited", [given], indirect=True)


def bearer(api: Api, tenant: str) -> dict[str, str]:
    secret, _ = api.store.keys.create(name="test", tenant=tenant)
    return {"Authorization": f"Bearer {secret}"}


def left(answer: httpx.Response, name: str = "requests") -> int:
    found = re.search(rf'"{name}";r=(\d+)', answer.headers["RateLimit"])
    assert found is not None
    return int(found[1])


@limits(limit_requests_per_second=0.5, limit_request_burst=3)
def test_a_request_too_many_is_refused_until_some_flow_back(limited: Api) -> None:
    answers = [limited.http.get("/v1/edits") for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [left(answer) for answer in answers] == [2, 1, 0, 0]
    first, refused = answers[0], answers[-1]
    assert first.headers["RateLimit-Policy"] == '"requests";q=3;w=6'
    assert re.fullmatch(r'"requests";r=0;t=[56]', refused.headers["RateLimit"])
    assert refused.json()["code"] == "rate_limited"
    wait = int(refused.headers["Retry-After"])
    assert wait in (1, 2)
    time.sleep(wait)
    assert limited.http.get("/v1/edits").status_code == 200


@limits(limit_requests_per_second=0.001, limit_request_burst=1)
def test_openais_paths_refuse_in_openais_shape(limited: Api) -> None:
    limited.http.get("/v1/models")

    body = {"model": "pico", "messages": [{"role": "user", "content": "hi"}]}
    refused = limited.http.post("/v1/chat/completions", json=body)

    assert refused.status_code == 429
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert refused.json()["error"]["code"] == "rate_limited"
    assert int(refused.headers["Retry-After"]) > 100


@limits(limit_requests_per_second=0.001, limit_request_burst=1)
def test_health_is_not_counted(limited: Api) -> None:
    assert {limited.http.get("/healthz").status_code for _ in range(5)} == {200}
    assert "RateLimit" not in limited.http.get("/healthz").headers


@limits(auth="keys", limit_requests_per_second=0.001, limit_request_burst=2)
def test_each_tenant_has_its_own_limits(limited: Api) -> None:
    one, other = bearer(limited, "one"), bearer(limited, "other")
    spent = [limited.http.get("/v1/edits", headers=one).status_code for _ in range(3)]

    assert spent == [200, 200, 429]
    assert limited.http.get("/v1/edits", headers=bearer(limited, "one")).status_code == 429
    assert limited.http.get("/v1/edits", headers=other).status_code == 200
    assert limited.http.get("/v1/edits").status_code == 401


def test_several_api_processes_share_one_bucket(settings: Settings) -> None:
    changed = settings.model_copy(
        update={"limit_requests_per_second": 0.001, "limit_request_burst": 20}
    )
    with (
        running_api(changed) as one,
        running_api(changed) as two,
        ThreadPoolExecutor(8) as pool,
    ):
        # At its first request an application builds its routes, while it silences warnings of the
        # whole process: not two at a time.
        first = [api.http.get("/v1/edits") for api in (one, two)]
        calls = [pool.submit(api.http.get, "/v1/edits") for api in [one, two] * 19]
        statuses = sorted(response.status_code for response in [*first, *map(Future.result, calls)])

    assert statuses == [200] * 20 + [429] * 20


def test_without_redis_nobody_is_refused_for_it_and_the_limit_holds(settings: Settings) -> None:
    with running_redis() as server:
        changed = settings.model_copy(
            update={
                "redis_url": server.url,
                "limit_requests_per_second": 0.001,
                "limit_request_burst": 5,
            }
        )
        with running_api(changed) as api:
            server.stop()
            away = [api.http.get("/v1/edits").status_code for _ in range(7)]
            server.start()
            time.sleep(1.1)  # a server that was away is not asked for a second
            back = [api.http.get("/v1/edits").status_code for _ in range(7)]

    assert away == [200] * 5 + [429] * 2
    assert back == [200] * 5 + [429] * 2


def test_a_tenant_can_have_limits_of_its_own(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "tenants.toml"
    file.write_text('[[tenant]]\nname = "big"\nqueued_edits = 9\n')
    table = read_limits(settings.model_copy(update={"tenants": file}))

    assert table.of("big").queued_edits == 9
    assert table.of("big").running_edits == table.of("other").running_edits
    assert table.of("other").queued_edits == 1_000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[tenant]]\nname = "a"\nqueued_edit = 9\n', "tenant.0.queued_edit"),
        ('[[tenant]]\nname = "a"\nqueued_edits = 0\n', "tenant.0.queued_edits"),
        ('[[tenant]]\nname = "a/b"\n', "tenant.0.name"),
        ('[[tenant]]\nname = "a"\n[[tenant]]\nname = "a"\n', "a has a table already"),
        ("[[tenants]]\n", "tenants"),
        ("queued_edits = ", "not valid TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named(
    settings: Settings, tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "tenants.toml"
    file.write_text(text)
    with pytest.raises(InvalidRequest, match=re.escape(said)):
        read_limits(settings.model_copy(update={"tenants": file}))


@limits(limit_queued_edits=5, **GENEROUS)
def test_no_more_edits_wait_than_the_quota_says_however_many_come_at_once(limited: Api) -> None:
    with ThreadPoolExecutor(12) as pool:
        calls = [pool.submit(limited.http.post, "/v1/edits", json=edit_body()) for _ in range(12)]
        answers = [call.result() for call in calls]

    assert sorted(answer.status_code for answer in answers) == [201] * 5 + [429] * 7
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["code"] == "quota_exceeded"
    assert int(refused.headers["Retry-After"]) > 0
    assert left(refused, "queued-edits") == 0
    assert len(limited.http.get("/v1/edits").json()["data"]) == 5


@limits(limit_queued_edits=1, **GENEROUS)
def test_a_repeated_request_comes_before_the_quota(limited: Api) -> None:
    key = {"Idempotency-Key": "once"}
    first = limited.http.post("/v1/edits", json=edit_body(), headers=key)
    other = limited.http.post("/v1/edits", json=edit_body(seed=1))
    again = limited.http.post("/v1/edits", json=edit_body(), headers=key)

    assert (first.status_code, other.status_code, again.status_code) == (201, 429, 201)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]


@limits(limit_queued_edits=1, **GENEROUS)
def test_what_was_refused_takes_no_suffix_and_no_key(limited: Api) -> None:
    key = {"Idempotency-Key": "later"}
    first = limited.http.post("/v1/edits", json=edit_body()).json()["id"]
    body = edit_body(suffix="kinder")
    assert limited.http.post("/v1/edits", json=body, headers=key).status_code == 429

    limited.http.post(f"/v1/edits/{first}/cancel")
    time.sleep(0.1)
    again = limited.http.post("/v1/edits", json=body, headers=key)

    assert again.status_code == 201
    assert "Idempotent-Replayed" not in again.headers


@limits(auth="keys", limit_queued_edits=2, **GENEROUS)
def test_an_emptied_redis_does_not_reset_a_quota(limited: Api, redis_server: RedisServer) -> None:
    headers = bearer(limited, "one")
    # As if another API process had let them in.
    for number in range(2):
        path = f"open/one/edit_{number:026}"
        limited.store.objects.create_record(path, Marker(kind="edit"))
    redis_server.client().flushall()

    assert limited.http.post("/v1/edits", json=edit_body(), headers=headers).status_code == 429
    other = bearer(limited, "other")
    assert limited.http.post("/v1/edits", json=edit_body(), headers=other).status_code == 201


@limits(limit_stored_bytes=90_000, **GENEROUS)
def test_stored_bytes_are_those_in_the_store(limited: Api, redis_server: RedisServer) -> None:
    long = " and so on" * 80
    body: dict[str, Any] = {"name": "long"}
    body |= {side: [text + long for text in texts(side)] for side in ("undesired", "desired")}
    answers = [limited.http.post("/v1/behaviors", json=body) for _ in range(3)]
    redis_server.client().flushall()

    assert [answer.status_code for answer in answers] == [201, 201, 429]
    assert answers[-1].json()["code"] == "quota_exceeded"
    assert "delete" in answers[-1].json()["detail"]
    with running_api(limited.services.settings) as fresh:  # knows nothing but the store
        edit = edit_body(behavior=body)
        assert fresh.http.post("/v1/edits", json=edit).status_code == 429
        fresh.http.delete(f"/v1/behaviors/{answers[0].json()['id']}")
        time.sleep(0.5)
        assert fresh.http.post("/v1/edits", json=edit).status_code == 201


@limits(limit_stored_bytes=20_000, **GENEROUS)
def test_versions_of_aliases_and_webhooks_count_as_stored(limited: Api) -> None:
    def put() -> int:
        return limited.http.put("/v1/aliases/bot", json={"variant": "pico"}).status_code

    def is_full() -> bool:
        if put() == 200:
            return False
        time.sleep(0.3)  # until it may be counted again
        return put() == 429

    hook = limited.http.post("/v1/webhooks", json={"url": "https://hooks.example.com/"}).json()
    assert [put() for _ in range(3)] == [200] * 3
    assert any(is_full() for _ in range(200))
    for _ in range(2):  # what undoes something still goes
        assert limited.http.post("/v1/aliases/bot/rollback", json={"version": 1}).status_code == 200
        off = limited.http.patch(f"/v1/webhooks/{hook['id']}", json={"enabled": False})
        assert off.status_code == 200
    assert limited.http.get("/v1/aliases/bot").status_code == 200


@limits(limit_tokens_per_minute=100, **GENEROUS)
def test_generated_tokens_are_reserved_and_what_was_not_used_comes_back(limited: Api) -> None:
    chat = {"model": "pico", "prompt": "hello", "max_tokens": 60}
    with running_generator() as generator:
        generator.beat(limited.services.live.client)
        first = limited.http.post("/v1/completions", json=chat)  # comes to 7 tokens
        assert left(first, "tokens") == 40
        time.sleep(0.2)
        second = limited.http.post("/v1/completions", json=chat)
        assert left(second, "tokens") in (33, 34)
        time.sleep(0.2)
        # One may go beyond what is left, so that it can be served at all; then nobody can.
        generator.pause = 1.0
        with limited.http.stream(
            "POST", "/v1/completions", json={**chat, "max_tokens": 3_000, "stream": True}
        ) as stream:
            assert stream.status_code == 200
            refused = limited.http.post("/v1/completions", json=chat)
            assert refused.status_code == 429
            assert refused.json()["error"]["code"] == "rate_limited"
            assert int(refused.headers["Retry-After"]) > 10  # its context has 128 tokens
            body = {"model": "pico", "prompt": "hello"}
            assert limited.http.post("/v1/compare", json=body).status_code == 429
        generator.pause = 0.0
        # Who broke off pays only for what came.
        until = time.monotonic() + 10
        while limited.http.post("/v1/completions", json=chat).status_code == 429:
            assert time.monotonic() < until, "what was not used does not come back"
            time.sleep(0.1)


@limits(auth="keys", **GENEROUS)
def test_the_place_in_the_queue_counts_ones_own_edits_alone(limited: Api) -> None:
    one, other = bearer(limited, "one"), bearer(limited, "other")
    for number in range(3):
        limited.http.post("/v1/edits", json=edit_body(seed=number), headers=one)
    made = limited.http.post("/v1/edits", json=edit_body(), headers=other).json()

    assert made["queue_position"] == 1


@limits(**GENEROUS)
def test_a_filtered_page_looks_at_so_many_edits_and_says_where_to_go_on(
    limited: Api,
) -> None:
    def page(after: str | None = None) -> PageQuery:
        return PageQuery(DEFAULT_LIMIT, "desc", after, most_looked_at=3)

    overrides = limited.server.config.app.dependency_overrides  # type: ignore[union-attr]
    overrides[page_by_id] = page
    wanted = limited.http.post("/v1/edits", json=edit_body(metadata={"team": "red"})).json()["id"]
    others = [limited.http.post("/v1/edits", json=edit_body()).json()["id"] for _ in range(5)]
    pages, after = [], None
    while True:
        params = {"metadata[team]": "red", **({"after": after} if after else {})}
        page = limited.http.get("/v1/edits", params=params).json()
        pages.append([edit["id"] for edit in page["data"]])
        after = page["last_id"]
        if not page["has_more"]:
            break
        assert after == others[2]

    assert pages == [[], [wanted]]
