"""API keys: who may come in, what a key may do, and that tenants see only their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from app.domain.accounts.api_keys import ALL_SCOPES, SCOPES
from app.request.auth import address_of
from models_store.settings import Settings
from tests.app.support.generator import running_generator
from tests.app.support.worker import Worker, edit_body
from tests.support.services import Api, running_api


@pytest.fixture
def locked(settings: Settings) -> Iterator[Api]:
    with running_api(settings.model_copy(update={"auth": "keys"})) as api:
        yield api


def bearer(api: Api, **options: Any) -> dict[str, str]:
    secret, _ = api.store.keys.create(name="test", **options)
    return {"Authorization": f"Bearer {secret}"}


@pytest.mark.parametrize("header", [None, "Bearer sk-wrong", "Bearer", "Basic c2s6", "sk-naked"])
def test_without_a_valid_key_nobody_comes_in(locked: Api, header: str | None) -> None:
    headers = {"Authorization": header} if header else {}
    for answer in (
        locked.http.get("/v1/edits", headers=headers),
        locked.http.post("/v1/edits", json=edit_body(), headers=headers),
        locked.http.get("/v1/edits/x/delta", headers=headers),
        locked.http.delete("/v1/base_models/x", headers=headers),
    ):
        assert answer.status_code == 401
        assert answer.json()["code"] == "unauthorized"
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    for answer in (
        locked.http.post("/v1/chat/completions", content=b"{", headers=headers),
        locked.http.get("/v1/models", headers=headers),
    ):
        assert answer.status_code == 401
        assert answer.json()["error"]["type"] == "authentication_error"


def test_where_no_keys_are_needed_everybody_may_do_everything(settings: Settings) -> None:
    with running_api(settings) as api:
        Worker(api.store, api.services.live.client).register("pico")
        id = api.http.post("/v1/edits", json=edit_body()).raise_for_status().json()["id"]
        actor = api.store.work.read("edit", "default", id).request.actor
        assert (actor.key_id, actor.scopes) == (None, ALL_SCOPES)
        assert api.http.get("/v1/api_keys").status_code == 200
        # Let in, though an edit needs it.
        assert api.http.delete("/v1/base_models/pico").status_code == 409


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/docs", "/docs/errors", "/openapi.json", "/"]
)
def test_some_pages_are_for_everyone(locked: Api, path: str) -> None:
    assert locked.http.get(path).status_code == 200


def test_a_request_counts_once_whatever_it_asks_for(settings: Settings) -> None:
    changes = {"auth": "keys", "limit_requests_per_second": 1e-3, "limit_request_burst": 3}
    with running_api(settings.model_copy(update=changes)) as api:
        who = bearer(api)
        paths = ("/v1/edits", "/v1/api_keys", "/v1/models", "/v1/edits")
        codes = [api.http.get(path, headers=who).status_code for path in paths]
        assert codes == [200, 200, 200, 429]


def test_each_scope_opens_its_calls(locked: Api) -> None:
    calls = {
        "edits:read": [("GET", "/v1/edits", None), ("GET", "/v1/models", None)],
        "edits:write": [
            ("POST", "/v1/edits", edit_body()),
            ("DELETE", "/v1/edits/x", None),
            ("PUT", "/v1/aliases/bot", {"variant": "pico"}),
            ("POST", "/v1/exports", {"variant": "pico", "format": "peft"}),
        ],
        "models:generate": [
            ("POST", "/v1/completions", {"model": "pico", "prompt": "a"}),
            ("POST", "/v1/edits/x/compare", {"prompts": ["a"]}),
        ],
        "admin": [
            ("POST", "/v1/base_models", {"id": "x", "source": {"type": "folder", "path": "/x"}}),
            ("DELETE", "/v1/base_models/y", None),
            ("GET", "/v1/api_keys", None),
        ],
    }
    assert calls.keys() == SCOPES.keys() - {"edits:unsafe"}  # asked for by no call, but by edits
    for scope in SCOPES:
        headers = bearer(locked, scopes=(scope,))
        for needed, requests in calls.items():
            for method, path, body in requests:
                answer = locked.http.request(method, path, json=body, headers=headers)
                if needed != scope:
                    assert answer.status_code == 403, (scope, method, path)
                    assert "missing_scope" in answer.text
                else:
                    assert answer.status_code not in (401, 403), (scope, method, path)


def test_tenants_see_only_their_own(locked: Api) -> None:
    worker = Worker(locked.store, locked.services.live.client)
    worker.register("pico")
    red, blue = bearer(locked, tenant="red"), bearer(locked, tenant="blue")

    def get(path: str, who: dict[str, str]) -> httpx.Response:
        return locked.http.get(path, headers=who)

    body = edit_body(suffix="kinder")
    id = locked.http.post("/v1/edits", json=body, headers=red).json()["id"]
    worker.claim(id, tenant="red")
    worker.succeed(id, tenant="red")
    made = locked.http.post("/v1/behaviors", json=body["behavior"], headers=red).json()
    locked.http.put("/v1/aliases/bot", json={"variant": "pico:kinder"}, headers=red)
    paths = [
        *(f"/v1/edits/{id}{path}" for path in ("", "/report", "/delta", "/events")),
        f"/v1/behaviors/{made['id']}",
        "/v1/aliases/bot",
        f"/v1/models/pico:{id}",
        "/v1/models/pico:kinder",
        "/v1/models/bot",
    ]
    for path in paths:
        assert get(path, red).status_code == 200, path
        assert get(path, blue).status_code == 404, path
    for call in (
        locked.http.post(f"/v1/edits/{id}/cancel", headers=blue),
        locked.http.delete(f"/v1/edits/{id}", headers=blue),
        locked.http.delete("/v1/aliases/bot", headers=blue),
    ):
        assert call.status_code == 404
    stolen = edit_body(behavior=made["id"])
    assert locked.http.post("/v1/edits", json=stolen, headers=blue).status_code == 422
    for path in ("/v1/edits", "/v1/behaviors?preset=false", "/v1/aliases"):
        assert len(get(path, red).json()["data"]) == 1
        assert get(path, blue).json()["data"] == []
    # A suffix and an idempotency key are one's own too.
    headers = {**blue, "Idempotency-Key": "k"}
    assert locked.http.post("/v1/edits", json=body, headers=headers).status_code == 201
    headers = {**red, "Idempotency-Key": "k"}
    other = edit_body(seed=5)
    assert locked.http.post("/v1/edits", json=other, headers=headers).status_code == 201
    with running_generator() as fake:
        fake.beat(locked.services.live.client)
        ask = {"model": "pico:kinder", "prompt": "a"}
        assert locked.http.post("/v1/completions", json=ask, headers=red).status_code == 200
        assert locked.http.post("/v1/completions", json=ask, headers=blue).status_code == 409


def test_who_asked_is_written_down(locked: Api) -> None:
    Worker(locked.store, locked.services.live.client).register("pico")
    secret, key = locked.store.keys.create(name="ci", scopes=("edits:write",))
    headers = {"Authorization": f"Bearer {secret}"}
    id = locked.http.post("/v1/edits", json=edit_body(), headers=headers).json()["id"]
    request = locked.store.work.read("edit", "default", id).request
    assert (request.actor.key_id, request.actor.scopes) == (key.id, ("edits:write",))
    everything = "".join(
        locked.store.objects.read(info.path).decode()
        for folder in ("api_keys", "edits", "open")
        for info in locked.store.objects.files(folder)
    )
    assert secret not in everything


def test_an_address_without_a_valid_key_is_bounded_before_anything_is_looked_up(
    settings: Settings,
) -> None:
    changes = {"auth": "keys", "limit_requests_per_second": 1e-3, "limit_request_burst": 3}
    with running_api(settings.model_copy(update=changes)) as api:
        known = bearer(api)
        assert api.http.get("/v1/edits", headers=known).status_code == 200
        looked_up: list[str] = []
        own = api.store.keys.find_digest
        api.store.keys.find_digest = lambda digest: (looked_up.append(digest), own(digest))[1]  # type: ignore[method-assign]
        codes = [
            api.http.get("/v1/edits", headers={"Authorization": f"Bearer sk-{n}"}).status_code
            for n in range(6)
        ]
        assert codes == [401, 401, 401, 429, 429, 429]
        assert len(looked_up) == 3
        assert api.http.get("/docs").status_code == 429
        # Whoever was let in a moment ago is not asked, and health is for machines.
        assert api.http.get("/v1/edits", headers=known).status_code == 200
        assert {api.http.get(path).status_code for path in ("/healthz", "/readyz")} == {200}


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("", "other"),
    ],
)
def test_what_counts_as_one_address(host: str, address: str) -> None:
    assert address_of(host) == address


def test_who_had_a_valid_key_is_let_in_when_strangers_of_the_same_address_have_used_it_up(
    settings: Settings,
) -> None:
    changes = {"auth": "keys", "limit_requests_per_second": 1e-3, "limit_request_burst": 9}
    with running_api(settings.model_copy(update=changes)) as api:
        known = bearer(api)
        assert api.http.get("/v1/edits", headers=known).status_code == 200
        for n in range(12):
            api.http.get("/v1/edits", headers={"Authorization": f"Bearer sk-{n}"})
        keys = api.server.config.app.state.keys  # type: ignore[union-attr]
        for digest, (_, state) in list(keys._valid.items()):
            keys._valid[digest] = (float("-inf"), state)  # as after a minute
        assert api.http.get("/v1/edits", headers=known).status_code == 200
