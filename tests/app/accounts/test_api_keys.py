"""API keys over HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.domain.accounts.api_keys import ApiKeys
from app.request.key_cache import KeyCache
from models_store.errors import InvalidRequest
from models_store.settings import Settings
from tests.app.support.worker import Worker
from tests.support.services import Api, running_api

KEYS = "/v1/api_keys"


@pytest.fixture
def locked_settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"auth": "keys"})


@pytest.fixture
def locked(locked_settings: Settings) -> Iterator[Api]:
    with running_api(locked_settings) as api:
        yield api


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def admin(api: Api, **options: Any) -> dict[str, str]:
    return bearer(api.store.keys.create(name="admin", **options)[0])


def seconds_until_refused(apis: list[Api], secret: str, limit: float = 10) -> float:
    """How long the key is still accepted anywhere."""
    started = time.monotonic()
    while any(api.http.get("/v1/edits", headers=bearer(secret)).status_code == 200 for api in apis):
        assert time.monotonic() < started + limit
        time.sleep(0.05)
    return time.monotonic() - started


def test_a_key_is_made_shown_once_read_listed_used_and_revoked(locked: Api) -> None:
    who = admin(locked)
    body = {"name": "ci", "scopes": ["edits:read", "edits:write"], "expires_at": 2**33}
    made = locked.http.post(KEYS, json=body, headers=who)
    view = made.json()
    secret = view["secret"]

    assert made.status_code == 201
    assert made.headers["Location"] == f"{KEYS}/{view['id']}"
    assert made.headers["Cache-Control"] == "no-store"
    assert (view["status"], view["tenant"], view["expires_at"]) == ("active", "default", 2**33)
    assert (view["scopes"], view["last_used_at"]) == (["edits:read", "edits:write"], None)
    assert view["made_by"] is not None
    assert locked.http.get("/v1/edits", headers=bearer(secret)).status_code == 200
    read = {}
    for _ in range(100):
        read = locked.http.get(f"{KEYS}/{view['id']}", headers=who).json()
        if read["last_used_at"] is not None:
            break
        time.sleep(0.05)
    assert 0 <= time.time() - read["last_used_at"] < 3700
    assert {**read, "last_used_at": None} == {**view, "secret": None}
    listed = locked.http.get(KEYS, headers=who).json()["data"]
    assert [one["id"] for one in listed] == [view["id"], view["made_by"]]
    assert secret not in locked.http.get(KEYS, headers=who).text
    for _ in range(2):
        revoked = locked.http.delete(f"{KEYS}/{view['id']}", headers=who)
        assert (revoked.status_code, revoked.json()["status"]) == (200, "revoked")
    assert locked.http.get("/v1/edits", headers=bearer(secret)).status_code == 401


def test_a_revoked_key_stops_within_five_seconds_in_every_process(
    locked: Api, locked_settings: Settings
) -> None:
    who = admin(locked)
    body = {"name": "ci", "scopes": ["edits:read"]}
    made = locked.http.post(KEYS, json=body, headers=who).json()
    with running_api(locked_settings) as other:
        for api in (locked, other):
            headers = bearer(made["secret"])
            assert api.http.get("/v1/edits", headers=headers).status_code == 200
        locked.http.delete(f"{KEYS}/{made['id']}", headers=who).raise_for_status()

        assert seconds_until_refused([locked], made["secret"]) < 1
        assert seconds_until_refused([locked, other], made["secret"]) < 5


def test_a_key_that_expires_stops_on_time_though_it_is_remembered(
    locked: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ApiKeys(locked.store.objects)
    secret, key = keys.create(name="x", expires_at=int(time.time()) + 60)
    cache = KeyCache(seconds=3600)
    assert cache.find(keys, secret) == key
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 61)

    assert cache.find(keys, secret) is None


def test_a_key_is_looked_up_again_only_after_a_while(locked: Api) -> None:
    keys = ApiKeys(locked.store.objects)
    secret, key = keys.create(name="x")
    cache = KeyCache(seconds=3600)
    assert cache.find(keys, secret) == key
    keys.revoke(keys.get(key.id))

    assert cache.find(keys, secret) == key
    assert KeyCache().find(keys, secret) is None


def test_guesses_push_no_key_out_that_is_in_use(locked: Api) -> None:
    keys = ApiKeys(locked.store.objects)
    secret, key = keys.create(name="x")
    cache = KeyCache(seconds=3600, capacity=3)
    assert cache.find(keys, secret) == key
    for guess in range(10):
        assert cache.find(keys, f"sk-{guess}") is None
    keys.revoke(keys.get(key.id))

    assert cache.find(keys, secret) == key, "it is remembered still"


def test_a_rotated_key_works_at_once_and_the_old_one_until_the_overlap_ends(locked: Api) -> None:
    who = admin(locked)
    body = {"name": "ci", "scopes": ["edits:read"]}
    old = locked.http.post(KEYS, json=body, headers=who).json()
    path = f"{KEYS}/{old['id']}/rotate"
    made = locked.http.post(path, json={"overlap_seconds": 2}, headers=who)
    new = made.json()

    assert (made.status_code, new["replaces"]) == (201, old["id"])
    assert locked.http.get("/v1/edits", headers=bearer(new["secret"])).status_code == 200
    assert 0 < seconds_until_refused([locked], old["secret"]) < 5
    assert locked.http.get("/v1/edits", headers=bearer(new["secret"])).status_code == 200
    read = locked.http.get(f"{KEYS}/{old['id']}", headers=who).json()
    assert (read["status"], read["replaced_by"]) == ("expired", new["id"])
    again = locked.http.post(path, json={}, headers=who)
    assert (again.status_code, again.json()["code"]) == (409, "key_ended")


def test_a_repeat_answers_with_the_key_but_not_with_its_secret(
    locked: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = {**admin(locked), "Idempotency-Key": "once"}
    body = {"name": "ci", "scopes": ["edits:read"], "expires_at": int(time.time()) + 60}
    first = locked.http.post(KEYS, json=body, headers=who)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 61)
    # A repeat is a repeat even when it could not be the first any more.
    again = locked.http.post(KEYS, json=body, headers=who)

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]
    assert again.json()["secret"] is None
    assert len(locked.http.get(KEYS, headers=who).json()["data"]) == 2
    for info in locked.store.objects.files(""):
        assert first.json()["secret"] not in locked.store.objects.read(info.path).decode()
    rotate = f"{KEYS}/{locked.store.keys.find(who['Authorization'][7:]).key.id}/rotate"  # type: ignore[union-attr]
    other = locked.http.post(rotate, json={}, headers=who)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")


def test_a_rotation_sent_twice_makes_one_key(locked: Api) -> None:
    who = {**admin(locked), "Idempotency-Key": "once"}
    _, old = locked.store.keys.create(name="ci")
    first, again = (
        locked.http.post(f"{KEYS}/{old.id}/rotate", json={}, headers=who) for _ in range(2)
    )

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["secret"] is not None
    assert again.json() == {**first.json(), "secret": None}
    assert len(locked.store.keys.all()) == 3


def test_a_request_that_was_refused_does_not_use_up_its_idempotency_key(locked: Api) -> None:
    who = {**admin(locked), "Idempotency-Key": "once"}
    body = {"name": "ci", "scopes": ["edits:read"]}
    refused = locked.http.post(KEYS, json={**body, "scopes": ["fly"]}, headers=who)
    made = locked.http.post(KEYS, json=body, headers=who)

    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/scopes/0"
    assert made.json()["secret"] is not None


def test_a_first_request_that_was_cut_short_lets_nobody_have_its_key(locked: Api) -> None:
    who = {**admin(locked), "Idempotency-Key": "once"}
    body = {"name": "ci", "scopes": ["edits:read"]}
    made = locked.http.post(KEYS, json=body, headers=who).json()
    digest = locked.store.keys.get(made["id"]).digest
    locked.store.objects.delete(f"api_keys/{digest}/key.json")  # as if it had died before this
    again = locked.http.post(KEYS, json=body, headers=who)

    assert (again.status_code, again.json()["code"]) == (409, "idempotency_key_in_use")


def test_a_key_gives_no_more_than_it_has(locked: Api) -> None:
    who = admin(locked, scopes=("admin", "edits:read"))
    _, mighty = locked.store.keys.create(name="mighty")

    def ask(path: str, body: dict[str, Any]) -> httpx.Response:
        return locked.http.post(path, json=body, headers=who)

    for answer in (
        ask(KEYS, {"name": "x", "scopes": ["edits:read", "edits:unsafe"]}),
        ask(f"{KEYS}/{mighty.id}/rotate", {}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "missing_scope")
    assert ask(KEYS, {"name": "x", "scopes": ["edits:read"]}).status_code == 201


def test_only_the_operator_reaches_into_other_tenants(locked: Api) -> None:
    operator, red = admin(locked), admin(locked, tenant="red")
    body = {"name": "x", "scopes": ["edits:read"], "tenant": "red"}
    made = locked.http.post(KEYS, json=body, headers=operator).json()
    assert made["tenant"] == "red"
    path = f"{KEYS}/{made['id']}"

    # One's own tenant may be named; the operator names the one that is meant.
    assert locked.http.get(path, headers=red).status_code == 200
    assert locked.http.get(path, headers=operator).status_code == 404
    assert locked.http.get(path, params={"tenant": "red"}, headers=operator).status_code == 200
    listed = locked.http.get(KEYS, params={"tenant": "red"}, headers=operator).json()["data"]
    assert len(listed) == 2
    for answer in (
        locked.http.post(KEYS, json={**body, "tenant": "blue"}, headers=red),
        locked.http.post(KEYS, json={**body, "tenant": "default"}, headers=red),
        locked.http.get(KEYS, params={"tenant": "default"}, headers=red),
        locked.http.delete(path, params={"tenant": "blue"}, headers=red),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "operators_only")
    assert locked.http.delete(path, params={"tenant": "red"}, headers=operator).status_code == 200


def test_base_models_are_everybodys_so_only_the_operator_changes_them(locked: Api) -> None:
    body = {"id": "x", "source": {"type": "folder", "path": "/x"}}
    red, operator = admin(locked, tenant="red"), admin(locked)
    for answer in (
        locked.http.post("/v1/base_models", json=body, headers=red),
        locked.http.delete("/v1/base_models/x", headers=red),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "operators_only")
        assert "shared by all tenants" in answer.json()["detail"]
    assert locked.http.post("/v1/base_models", json=body, headers=operator).status_code == 201


def test_tenants_that_differ_by_case_only_are_one_too_many(api: Api) -> None:
    api.store.keys.create(name="first", tenant="Support")
    api.store.keys.create(name="again", tenant="Support")
    with pytest.raises(InvalidRequest, match="there is a tenant 'Support'") as refused:
        api.store.keys.create(name="other", tenant="support")
    assert refused.value.errors[0].pointer == "/tenant"


def test_others_are_shown_no_folders_of_the_server(settings: Settings, tmp_path: Path) -> None:
    with running_api(settings.model_copy(update={"auth": "keys"})) as api:
        Worker(api.store, api.services.live.client).register("pico")
        shown = {}
        for tenant in ("default", "support"):
            secret, _ = api.store.keys.create(name=tenant, tenant=tenant)
            headers = {"Authorization": f"Bearer {secret}"}
            one = api.http.get("/v1/base_models/pico", headers=headers).json()
            (listed,) = api.http.get("/v1/base_models", headers=headers).json()["data"]
            assert listed == one
            shown[tenant] = one["source"]["path"]
        assert shown == {"default": "/weights/pico", "support": "pico"}
        folder = settings.data / "store"
        folder.rename(folder.with_name("away"))
        assert str(settings.data) not in api.http.get("/readyz").text
        folder.with_name("away").rename(folder)
