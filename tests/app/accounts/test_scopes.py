"""Which scope each route needs: one row a route."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.domain.accounts.api_keys import DEFAULT_TENANT, SCOPES
from tests.security.doors import OPEN, Door, Names, doors
from tests.support.services import Api, RedisServer, api_settings, running_api

OPERATOR = "operator"
"""The scope `admin`, with a key of the installation's own tenant."""

NEEDED = {
    "DELETE /v1/aliases/*": "edits:write",
    "DELETE /v1/exports/*": "edits:write",
    "POST /v1/exports/*/cancel": "edits:write",
    "POST /v1/exports/*/canary": "edits:write",
    "GET /v1/aliases/*/history": "edits:read",
    "DELETE /v1/api_keys/*": "admin",
    "DELETE /v1/base_models/*": OPERATOR,
    "DELETE /v1/behaviors/*": "edits:write",
    "DELETE /v1/edits/*": "edits:write",
    "DELETE /v1/webhooks/*": "edits:write",
    "GET /dashboard": "edits:read",
    "GET /dashboard/admin": "admin",
    "GET /dashboard/behaviors": "edits:read",
    "GET /dashboard/edits/*": "edits:read",
    "GET /dashboard/models": "edits:read",
    "GET /dashboard/new": "edits:read",
    "GET /dashboard/playground": "edits:read",
    "GET /v1/aliases": "edits:read",
    "GET /v1/aliases/*": "edits:read",
    "GET /v1/api_keys": "admin",
    "GET /v1/api_keys/*": "admin",
    "GET /v1/base_models": "edits:read",
    "GET /v1/base_models/*": "edits:read",
    "GET /v1/behaviors": "edits:read",
    "GET /v1/behaviors/*": "edits:read",
    "GET /v1/edits": "edits:read",
    "GET /v1/edits/*": "edits:read",
    "GET /v1/edits/*/delta": "edits:read",
    "GET /v1/edits/*/events": "edits:read",
    "GET /v1/edits/*/report": "edits:read",
    "GET /v1/edits/*/texts": "edits:read",
    "GET /v1/exports": "edits:read",
    "GET /v1/exports/*": "edits:read",
    "GET /v1/exports/*/archive": "edits:read",
    "GET /v1/exports/*/canary": "edits:read",
    "GET /v1/exports/*/files/*": "edits:read",
    "DELETE /v1/files/*": "edits:write",
    "GET /v1/files": "edits:read",
    "GET /v1/files/*": "edits:read",
    "GET /v1/files/*/content": "edits:read",
    "GET /v1/fine_tuning/jobs": "edits:read",
    "GET /v1/fine_tuning/jobs/*": "edits:read",
    "GET /v1/fine_tuning/jobs/*/checkpoints": "edits:read",
    "GET /v1/fine_tuning/jobs/*/events": "edits:read",
    "POST /v1/files": "edits:write",
    "POST /v1/fine_tuning/jobs": "edits:write",
    "POST /v1/fine_tuning/jobs/*/cancel": "edits:write",
    "GET /v1/models": "edits:read",
    "GET /v1/models/*": "edits:read",
    "GET /v1/webhooks": "edits:read",
    "GET /v1/webhooks/*": "edits:read",
    "GET /v1/webhooks/*/deliveries": "edits:read",
    "HEAD /v1/edits/*/delta": "edits:read",
    "HEAD /v1/edits/*/report": "edits:read",
    "HEAD /v1/exports/*/files/*": "edits:read",
    "PATCH /v1/webhooks/*": "edits:write",
    "POST /v1/aliases/*/rollback": "edits:write",
    "POST /v1/api_keys": "admin",
    "POST /v1/api_keys/*/rotate": "admin",
    "POST /v1/base_models": OPERATOR,
    "POST /v1/behaviors": "edits:write",
    "POST /v1/behaviors/draft": "models:generate",
    "POST /v1/chat/completions": "models:generate",
    "POST /v1/compare": "models:generate",
    "POST /v1/completions": "models:generate",
    "POST /v1/edits": "edits:write",
    "POST /v1/edits/*/cancel": "edits:write",
    "POST /v1/edits/*/compare": "models:generate",
    "POST /v1/edits/*/reproduce": "edits:write",
    "POST /v1/edits/estimate": "edits:write",
    "POST /v1/exports": "edits:write",
    "POST /v1/imports": "edits:write",
    "POST /v1/receipts": "edits:write",
    "POST /v1/webhooks": "edits:write",
    "POST /v1/webhooks/*/deliveries/*/retry": "edits:write",
    "POST /v1/webhooks/*/rotate": "edits:write",
    "POST /v1/webhooks/*/test": "edits:write",
    "PUT /v1/aliases/*": "edits:write",
}
"""By route; those of `OPEN` need no key."""

NOTHING = Names(
    edit="edit_01K0000000000000000000000A",
    queued="edit_01K0000000000000000000000B",
    behavior="beh_01K0000000000000000000000A",
    export="exp_01K0000000000000000000000A",
    key="key_01K0000000000000000000000A",
    webhook="whk_01K0000000000000000000000A",
    delivery="msg_01K0000000000000000000000A",
    alias="nobody",
    suffix="nothing",
    idempotency_key="once",
    file="file-01K0000000000000000000000A",
    job="ftjob-01K0000000000000000000000A",
)
"""Names of things that are not there: what may be done with them ends with 404 or 422."""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, redis_of_module: RedisServer) -> Iterator[Api]:
    settings = api_settings(
        tmp_path_factory.mktemp("scopes"),
        redis_of_module,
        auth="keys",
        limit_requests_per_second=1e6,
        limit_request_burst=10**9,
    )
    with running_api(settings) as running:
        yield running


def routes(api: Api) -> list[Door]:
    return [door for door in doors(api.server.config.app) if door.path not in OPEN]  # type: ignore[arg-type]


def opened(api: Api, scope: str, tenant: str = DEFAULT_TENANT) -> set[str]:
    """The routes that let a key in that has that scope alone."""
    secret, _ = api.store.keys.create(name="test", scopes=(scope,), tenant=tenant)
    found = set()
    for door in routes(api):
        knock = next(door.knocks(NOTHING))
        answer = api.http.request(
            knock.method, knock.path, json=knock.json, headers={"Authorization": f"Bearer {secret}"}
        )
        assert answer.status_code not in (401, 429, 500, 503), (door, answer.text)
        if answer.status_code != 403:
            found.add(str(door))
        elif door.method != "HEAD":
            said = (f"the key has {scope}", "operators_only")
            assert any(text in answer.text for text in said), (door, answer.text)
    return found


def test_every_route_has_a_row(api: Api) -> None:
    assert sorted(NEEDED) == sorted(map(str, routes(api)))


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_opens_its_routes_and_no_others(api: Api, scope: str) -> None:
    needed = {scope, OPERATOR} if scope == "admin" else {scope}
    assert opened(api, scope) == {door for door, own in NEEDED.items() if own in needed}


def test_the_scope_admin_of_another_tenant_opens_nothing_of_the_operators(api: Api) -> None:
    assert opened(api, "admin", "red") == {door for door, own in NEEDED.items() if own == "admin"}
