"""Nobody comes in without a key, and a tenant sees nothing of another's: at every door there is.

The doors are read from the application, so that a new one cannot be forgotten.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.domain.accounts.api_keys import ALL_SCOPES
from app.domain.events.events import durable_events
from app.domain.webhooks.deliveries import message_id
from app.domain.webhooks.sending import Sent
from app.domain.webhooks.tries import tried
from models_store.work.store import Place
from tests.app.fine_tuning.cases import PREFERENCES
from tests.app.support.sample_report import sample_report
from tests.app.support.worker import Worker, edit_body, texts
from tests.security.doors import OPEN, UNSAFE, Door, Knock, Names, doors
from tests.support.services import Api, RedisServer, api_settings, running_api

RED, BLUE, GREEN = "red", "blue", "green"
MARK = "crimson"
"""Is in all that red's things hold."""
_ID = re.compile(
    r"\b(edit|exp|beh|key|whk|req|msg|chatcmpl|cmpl|file|ftjob|ftevent)_?-?[0-9A-Za-z]{24,26}\b"
)
_PASSING = {"x-request-id", "date", "content-length", "ratelimit", "location"}
"""Headers in which two answers may differ."""
_SECONDS = re.compile(r"(_at|^created|^at|^queue_position|^secret)$")


def key(api: Api, tenant: str, scopes: tuple[str, ...] = ALL_SCOPES) -> dict[str, str]:
    secret, _ = api.store.keys.create(name="test", tenant=tenant, scopes=scopes)
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture(scope="module")
def api(
    tmp_path_factory: pytest.TempPathFactory,
    redis_of_module: RedisServer,
) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("tenants")
    settings = api_settings(
        folder,
        redis_of_module,
        auth="keys",
        drain_seconds=1,
        limit_requests_per_second=1e6,
        limit_request_burst=10**9,
    )
    with running_api(settings) as running:
        Worker(running.store, running.services.live.client).register("pico")
        yield running


@pytest.fixture(scope="module")
def names(api: Api) -> Names:
    """What red has: something behind every door."""
    who = key(api, RED)
    once = {**who, "Idempotency-Key": f"{MARK}-once"}

    def post(path: str, body: Any, headers: dict[str, str] = who) -> str:
        made = api.http.post(path, json=body, headers=headers)
        assert made.status_code == 201, made.text
        id = made.json()["id"]
        assert isinstance(id, str)
        return id

    worker = Worker(api.store, api.services.live.client)
    behavior = {"name": MARK, "undesired": texts(f"bad {MARK}"), "desired": texts("good")}
    body = edit_body(behavior=behavior, suffix=f"{MARK}-tone", metadata={"team": MARK})
    edit = post("/v1/edits", body, once)
    worker.claim(edit, tenant=RED)
    report = sample_report(warnings=[{"pointer": "", "code": "few_texts", "detail": MARK}])
    worker.succeed(edit, tenant=RED, report=report.model_dump_json().encode())
    alias = {"variant": f"pico:{edit}"}
    api.http.put(f"/v1/aliases/{MARK}-bot", json=alias, headers=who).raise_for_status()
    export = post("/v1/exports", {"variant": f"pico:{edit}", "format": "native"})
    place = Place("export", RED, export)
    worker.claim(export, "export", RED)
    worker._end(place, files={"delta.safetensors": MARK.encode() * 9}, outcome_data={})
    hook = post("/v1/webhooks", {"url": f"https://{MARK}.invalid/", "description": MARK})
    queued = post("/v1/edits", edit_body(metadata={"team": MARK}))
    event = durable_events(api.store.work.read("edit", RED, queued))[0]
    one = tried(None, event, Sent(0.1, 200), 0.0, most_tries=1, first_pause=1)
    assert api.store.deliveries.append(RED, hook, queued, one)
    headers = {**who, "Idempotency-Key": f"{MARK}-file"}
    form = {"file": (f"{MARK}.jsonl", PREFERENCES)}
    file = api.http.post("/v1/files", data={"purpose": "fine-tune"}, files=form, headers=headers)
    job = {
        "model": "pico",
        "training_file": file.json()["id"],
        "method": {"type": "dpo"},
        "metadata": {"team": MARK},
    }
    made = api.http.post("/v1/fine_tuning/jobs", json=job, headers=who)
    return Names(
        file=file.json()["id"],
        job=made.json()["id"],
        edit=edit,
        queued=queued,
        webhook=hook,
        delivery=message_id(hook, queued, 1),
        behavior=post("/v1/behaviors", behavior),
        export=export,
        key=post("/v1/api_keys", {"name": MARK, "scopes": ["edits:read"]}),
        alias=f"{MARK}-bot",
        suffix=f"{MARK}-tone",
        idempotency_key=f"{MARK}-once",
    )


@pytest.fixture(scope="module")
def every_door(api: Api) -> list[Door]:
    app = api.server.config.app
    assert isinstance(app, FastAPI)
    return doors(app)


def send(api: Api, knock: Knock, headers: dict[str, str]) -> httpx.Response:
    return api.http.request(
        knock.method,
        knock.path,
        json=knock.json,
        params=dict(knock.params),
        headers={**knock.headers, **headers},
    )


def told(answer: httpx.Response, names: Names) -> tuple[int, dict[str, str], str]:
    """All that an answer says, but for what may differ: the names asked for, ids, and times."""

    def plain(text: str) -> str:
        for name in names.all():
            text = text.replace(name, "NAME")
        return _ID.sub("ID", text)

    headers = {
        name: plain(value)
        for name, value in answer.headers.items()
        if name not in _PASSING and not name.startswith("ratelimit")
    }
    try:
        body = json.dumps(_without_times(answer.json()))
    except ValueError:
        body = answer.text
    return answer.status_code, headers, plain(body)


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: 0 if _SECONDS.search(name) and one is not None else _without_times(one)
            for name, one in value.items()
        }
    return [_without_times(one) for one in value] if isinstance(value, list) else value


def snapshot(api: Api, names: Names, who: dict[str, str]) -> dict[str, Any]:
    """What red sees of its own."""
    paths = [
        "/v1/edits",
        f"/v1/edits/{names.edit}",
        f"/v1/edits/{names.edit}/report",
        f"/v1/edits/{names.edit}/events",
        f"/v1/edits/{names.queued}",
        "/v1/behaviors",
        f"/v1/behaviors/{names.behavior}",
        "/v1/exports",
        f"/v1/exports/{names.export}",
        "/v1/files",
        f"/v1/files/{names.file}",
        "/v1/fine_tuning/jobs",
        f"/v1/fine_tuning/jobs/{names.job}",
        f"/v1/fine_tuning/jobs/{names.job}/events",
        "/v1/aliases",
        f"/v1/aliases/{names.alias}",
        "/v1/models",
        f"/v1/api_keys/{names.key}",
        "/v1/webhooks",
        f"/v1/webhooks/{names.webhook}",
        f"/v1/webhooks/{names.webhook}/deliveries",
    ]
    found = {}
    for path in paths:
        answer = api.http.get(path, headers=who)
        assert answer.status_code == 200, path
        found[path] = answer.json()
        assert found[path].get("data") != [], path
    return found


def test_without_a_key_every_door_is_shut_but_those_that_are_listed(
    api: Api, names: Names, every_door: list[Door]
) -> None:
    shut = set()
    for door in every_door:
        for knock in door.knocks(names):
            for headers in ({}, {"Authorization": "Bearer sk-" + "x" * 43}):
                answer = send(api, knock, headers)
                if door.path in OPEN:
                    assert answer.status_code in (200, 206, 405, 406, 415), knock
                    continue
                assert answer.status_code == 401, knock
                assert answer.headers["WWW-Authenticate"] == "Bearer"
                if knock.method != "HEAD":
                    shut.add(_said(answer))
    # One body for all, one in the shape of OpenAI's API, and one page for people.
    assert len(shut) == 3


def _said(answer: httpx.Response) -> str:
    if "text/html" in answer.headers["Content-Type"]:
        return answer.text.replace(html.escape(answer.request.url.raw_path.decode()), "PATH")
    body = {
        name: value
        for name, value in answer.json().items()
        if name not in ("instance", "request_id")
    }
    return json.dumps(body, sort_keys=True)


def test_what_is_anothers_is_answered_like_what_never_was(
    api: Api, names: Names, every_door: list[Door]
) -> None:
    red, blue = key(api, RED), key(api, BLUE)
    before = snapshot(api, names, red)
    unknown = names.unknown()
    asked = 0
    for door in every_door:
        pairs = zip(door.knocks(names), door.knocks(unknown), strict=True)
        for foreign, never in pairs:
            answer, other = send(api, foreign, blue), send(api, never, blue)
            asked += 1
            assert told(answer, names) == told(other, unknown), foreign
            mentioned = json.dumps([foreign.path, foreign.json, dict(foreign.params)])
            if MARK not in mentioned:
                assert MARK not in _all_of(answer), foreign
            for name in names.all():
                if name not in mentioned:
                    assert name not in _all_of(answer), (name, foreign)
    assert asked > 300
    assert snapshot(api, names, red) == before


def _all_of(answer: httpx.Response) -> str:
    return answer.text + str(answer.headers)


def test_lists_have_and_count_ones_own_only(api: Api, names: Names, every_door: list[Door]) -> None:
    green = key(api, GREEN)
    listed = 0
    for door in every_door:
        if door.method == "GET" and door.path.startswith("/v1/") and "{" not in door.path:
            page = api.http.get(door.path, headers=green).json()
            owned = [
                one["id"]
                for one in page["data"]
                if door.path not in ("/v1/base_models", "/v1/api_keys")
                and one.get("id") != "pico"
                and not one.get("preset")
            ]
            assert owned == [], door
            assert page.get("has_more") in (None, False), door
            listed += 1
    assert listed >= 6


def test_every_door_asks_for_one_scope(api: Api, names: Names, every_door: list[Door]) -> None:
    """The key of a tenant that has nothing lacks one scope after the other."""
    lacking = {
        scope: key(api, GREEN, tuple(other for other in ALL_SCOPES if other != scope))
        for scope in ALL_SCOPES
    }
    needed: dict[str, str] = {}
    for door in every_door:
        if door.path in OPEN:
            continue
        knock = next(door.knocks(names.unknown()))
        answers = {scope: send(api, knock, headers) for scope, headers in lacking.items()}
        (needed[str(door)],) = [
            scope
            for scope, answer in answers.items()
            if answer.status_code == 403
            and (knock.method == "HEAD" or "missing_scope" in answer.text)
        ]

    assert needed["GET /v1/edits"] == "edits:read"
    assert needed["POST /v1/edits"] == "edits:write"
    assert needed["POST /v1/completions"] == "models:generate"
    assert {scope for door, scope in needed.items() if "/api_keys" in door} == {"admin"}
    reading = {scope for door, scope in needed.items() if door.split()[0] not in UNSAFE}
    assert reading == {"edits:read", "admin"}
