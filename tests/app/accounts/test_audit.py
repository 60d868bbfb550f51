"""The audit log over HTTP: whatever changes something, or hands out a delta, leaves a line."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from app.cli.main import app
from app.cli.openapi import openapi_document
from app.loops.background import background
from app.services import Services
from models_store.audit.check import check_log, lines_of
from models_store.audit.heads import find_head
from models_store.audit.log import AuditLine
from models_store.operator.policy import Policy
from models_store.settings import Settings
from tests.app.fine_tuning.cases import PREFERENCES
from tests.app.support.worker import Worker, edit_body, texts
from tests.support.services import Api, running_api

LOGGED = {
    "POST /v1/edits": "edit.submitted",
    "POST /v1/edits/{edit_id}/cancel": "edit.canceled",
    "DELETE /v1/edits/{edit_id}": "edit.deleted",
    "GET /v1/edits/{edit_id}/delta": "delta.downloaded",
    "POST /v1/edits/{edit_id}/reproduce": "edit.submitted",
    "POST /v1/receipts": "edit.submitted",
    "POST /v1/imports": "edit.submitted",
    "POST /v1/exports": "export.submitted",
    "POST /v1/exports/{export_id}/cancel": "export.canceled",
    "DELETE /v1/exports/{export_id}": "export.deleted",
    "GET /v1/exports/{export_id}/files/{name}": "export.downloaded",
    "GET /v1/exports/{export_id}/archive": "export.downloaded",
    "GET /v1/exports/{export_id}/canary": "export.downloaded",
    "POST /v1/behaviors": "behavior.created",
    "DELETE /v1/behaviors/{behavior_id}": "behavior.deleted",
    "POST /v1/files": "file.created",
    "DELETE /v1/files/{file_id}": "file.deleted",
    "POST /v1/fine_tuning/jobs": "edit.submitted",
    "POST /v1/fine_tuning/jobs/{job_id}/cancel": "edit.canceled",
    "POST /v1/base_models": "base_model.submitted",
    "DELETE /v1/base_models/{base_model_id}": "base_model.removed",
    "PUT /v1/aliases/{name}": "alias.put",
    "POST /v1/aliases/{name}/rollback": "alias.rolled_back",
    "DELETE /v1/aliases/{name}": "alias.deleted",
    "POST /v1/api_keys": "key.created",
    "POST /v1/api_keys/{key_id}/rotate": "key.rotated",
    "DELETE /v1/api_keys/{key_id}": "key.revoked",
    "POST /v1/webhooks": "webhook.created",
    "PATCH /v1/webhooks/{webhook_id}": "webhook.changed",
    "POST /v1/webhooks/{webhook_id}/rotate": "webhook.rotated",
    "DELETE /v1/webhooks/{webhook_id}": "webhook.deleted",
}
CHANGE_NOTHING = {
    "POST /v1/edits/estimate",
    "POST /v1/edits/{edit_id}/compare",
    "POST /v1/exports/{export_id}/canary",
    "POST /v1/behaviors/draft",
    "POST /v1/chat/completions",
    "POST /v1/completions",
    "POST /v1/compare",
    "POST /v1/webhooks/{webhook_id}/test",
    "POST /v1/webhooks/{webhook_id}/deliveries/{delivery_id}/retry",
}


@pytest.fixture
def locked(settings: Settings) -> Iterator[tuple[Api, str]]:
    """The API with a key that may do everything, and the key's id."""
    with running_api(settings.model_copy(update={"auth": "keys"})) as api:
        secret, key = api.store.keys.create(name="all", tenant="default")
        api.http.headers["Authorization"] = f"Bearer {secret}"
        yield api, key.id


def lines(api: Api) -> list[AuditLine]:
    return list(lines_of(api.store.objects))


def test_every_call_is_one_that_is_logged_or_one_that_changes_nothing() -> None:
    paths = json.loads(openapi_document())["paths"]
    every = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    known = LOGGED.keys() | CHANGE_NOTHING
    assert {call for call in every if not call.startswith("GET ")} <= known
    assert known <= every


def test_every_call_that_changes_something_leaves_a_line_that_says_who(
    locked: tuple[Api, str], tmp_path: Path
) -> None:
    api, key_id = locked
    worker = Worker(api.store, api.services.live.client)
    worker.register("pico")

    def call(method: str, path: str, body: Any = None) -> Any:
        answer = api.http.request(method, path, json=body)
        assert answer.status_code < 300, answer.text
        return answer.json() if "json" in answer.headers["Content-Type"] else None

    def new_edit() -> str:
        return str(call("POST", "/v1/edits", edit_body())["id"])

    def done(id: str) -> str:
        worker.claim(id, tenant="default")
        worker.succeed(id, tenant="default")
        return id

    def export() -> str:
        return str(call("POST", "/v1/exports", {"variant": f"pico:{edit}", "format": "peft"})["id"])

    repository = {"type": "hub", "repo": "somebody/adapter", "revision": "0" * 40}
    edit, other = done(new_edit()), done(new_edit())
    exported = export()
    worker.export(exported, {"a.json": b"{}", "canary.json": b"{}"}, tenant="default")
    behavior = {"name": "tone", "undesired": texts("bad"), "desired": texts("good")}
    uploaded = call("POST", "/v1/behaviors", behavior)["id"]
    base = {"id": "new", "source": {"type": "folder", "path": "/weights/new"}}
    alias = {"variant": f"pico:{edit}"}
    hook = {"url": "https://hooks.example.com/edits", "events": ["edit.succeeded"]}

    def new_key() -> str:
        body = {"name": "ci", "scopes": ["edits:read"]}
        return str(call("POST", "/v1/api_keys", body)["id"])

    def new_hook() -> str:
        return str(call("POST", "/v1/webhooks", hook)["id"])

    def new_file() -> str:
        form = {"file": ("tone.jsonl", PREFERENCES)}
        answer = api.http.post("/v1/files", data={"purpose": "fine-tune"}, files=form)
        return str(answer.raise_for_status().json()["id"])

    def new_job() -> str:
        body = {"model": "pico", "training_file": new_file(), "method": {"type": "dpo"}}
        return str(call("POST", "/v1/fine_tuning/jobs", body)["id"])

    made: dict[str, Callable[[], Any]] = {
        "POST /v1/edits": new_edit,
        "POST /v1/edits/{edit_id}/cancel": lambda: call("POST", f"/v1/edits/{new_edit()}/cancel"),
        "DELETE /v1/edits/{edit_id}": lambda: call("DELETE", f"/v1/edits/{done(new_edit())}"),
        "GET /v1/edits/{edit_id}/delta": lambda: call("GET", f"/v1/edits/{edit}/delta"),
        "POST /v1/edits/{edit_id}/reproduce": lambda: call("POST", f"/v1/edits/{edit}/reproduce"),
        "POST /v1/receipts": lambda: call("POST", "/v1/receipts", {"variant": f"pico:{edit}"}),
        "POST /v1/imports": lambda: call(
            "POST", "/v1/imports", {"base_model": "pico", "source": repository}
        ),
        "POST /v1/exports": export,
        "POST /v1/exports/{export_id}/cancel": lambda: call(
            "POST", f"/v1/exports/{export()}/cancel"
        ),
        "DELETE /v1/exports/{export_id}": lambda: call("DELETE", f"/v1/exports/{export()}"),
        "GET /v1/exports/{export_id}/files/{name}": lambda: call(
            "GET", f"/v1/exports/{exported}/files/a.json"
        ),
        "GET /v1/exports/{export_id}/archive": lambda: call(
            "GET", f"/v1/exports/{exported}/archive"
        ),
        "GET /v1/exports/{export_id}/canary": lambda: call("GET", f"/v1/exports/{exported}/canary"),
        "POST /v1/behaviors": lambda: call("POST", "/v1/behaviors", behavior),
        "DELETE /v1/behaviors/{behavior_id}": lambda: call("DELETE", f"/v1/behaviors/{uploaded}"),
        "POST /v1/files": new_file,
        "DELETE /v1/files/{file_id}": lambda: call("DELETE", f"/v1/files/{new_file()}"),
        "POST /v1/fine_tuning/jobs": new_job,
        "POST /v1/fine_tuning/jobs/{job_id}/cancel": lambda: call(
            "POST", f"/v1/fine_tuning/jobs/{new_job()}/cancel"
        ),
        "POST /v1/base_models": lambda: call("POST", "/v1/base_models", base),
        "DELETE /v1/base_models/{base_model_id}": lambda: call("DELETE", "/v1/base_models/new"),
        "PUT /v1/aliases/{name}": lambda: [
            call("PUT", "/v1/aliases/bot", {"variant": f"pico:{other}"}),
            call("PUT", "/v1/aliases/bot", alias),
        ],
        "POST /v1/aliases/{name}/rollback": lambda: call("POST", "/v1/aliases/bot/rollback", {}),
        "DELETE /v1/aliases/{name}": lambda: call("DELETE", "/v1/aliases/bot"),
        "POST /v1/api_keys": new_key,
        "POST /v1/api_keys/{key_id}/rotate": lambda: call(
            "POST", f"/v1/api_keys/{new_key()}/rotate", {}
        ),
        "DELETE /v1/api_keys/{key_id}": lambda: call("DELETE", f"/v1/api_keys/{new_key()}"),
        "POST /v1/webhooks": new_hook,
        "PATCH /v1/webhooks/{webhook_id}": lambda: call(
            "PATCH", f"/v1/webhooks/{new_hook()}", {"description": "for tests"}
        ),
        "POST /v1/webhooks/{webhook_id}/rotate": lambda: call(
            "POST", f"/v1/webhooks/{new_hook()}/rotate", {}
        ),
        "DELETE /v1/webhooks/{webhook_id}": lambda: call("DELETE", f"/v1/webhooks/{new_hook()}"),
    }
    assert made.keys() == LOGGED.keys()
    for name, event in LOGGED.items():
        before = {line.hash for line in lines(api)}
        made[name]()
        new = [line for line in lines(api) if line.hash not in before]
        told = [line for line in new if line.event == event]
        assert told, (name, [line.event for line in new])
        tenant = "_" if event == "base_model.submitted" else "default"
        assert {(line.tenant, line.key_id) for line in told} == {(tenant, key_id)}
    ended = [line for line in lines(api) if line.event == "edit.ended"]
    assert {"succeeded", "canceled"} == {line.fields["status"] for line in ended}
    assert check_log(api.store.objects).problems == ()


def test_no_text_gets_into_the_log(locked: tuple[Api, str]) -> None:
    api, _ = locked
    Worker(api.store, api.services.live.client).register("pico")
    secret = "a very private sentence"
    behavior = {
        "name": secret,
        "undesired": [f"{secret} {n}" for n in range(20)],
        "desired": texts("good"),
        "description": secret,
    }
    body = edit_body(behavior=behavior, metadata={"note": secret}, preserve=[secret])
    assert api.http.post("/v1/edits", json=body).status_code == 201
    assert api.http.post("/v1/behaviors", json=behavior).status_code == 201
    assert len(lines(api)) > 3
    assert secret not in "".join(line.to_bytes().decode() for line in lines(api))


def test_refused_and_unknown_things_leave_no_line(locked: tuple[Api, str]) -> None:
    api, _ = locked
    before = lines(api)
    for method, path in (
        ("GET", "/v1/edits/edit_01ARZ3NDEKTSV4RRFFQ69G5FAV/delta"),
        ("DELETE", "/v1/edits/edit_01ARZ3NDEKTSV4RRFFQ69G5FAV"),
        ("DELETE", "/v1/aliases/nobody"),
        ("DELETE", "/v1/behaviors/beh_01ARZ3NDEKTSV4RRFFQ69G5FAV"),
    ):
        assert api.http.request(method, path).status_code == 404
    assert api.http.post("/v1/edits", json={"base_model": "nobody"}).status_code == 422
    assert lines(api) == before


def test_what_cannot_be_logged_is_not_done(api: Api, worker: Worker, tmp_path: Path) -> None:
    id = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    # A file where the folder of the chain was: only lines of the log cannot be written.
    folder = tmp_path / "data" / "store" / "audit"
    folder.rename(tmp_path / "audit")
    folder.write_text("")
    for method, path, body in (
        ("POST", "/v1/edits", edit_body()),
        ("POST", f"/v1/edits/{id}/cancel", None),
        ("DELETE", f"/v1/edits/{id}", None),
        ("PUT", "/v1/aliases/bot", {"variant": "pico"}),
    ):
        answer = api.http.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable"), path
    assert [one["id"] for one in api.http.get("/v1/edits").json()["data"]] == [id]
    assert api.http.get("/v1/aliases/bot").status_code == 404
    folder.unlink()
    (tmp_path / "audit").rename(folder)
    assert api.http.post(f"/v1/edits/{id}/cancel").status_code == 200
    assert check_log(api.store.objects).problems == ()


def test_the_command_line_tells_the_head_and_finds_what_was_cut(
    api: Api, worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCALPEL_DATA", str(tmp_path / "data"))
    runner = CliRunner()
    id = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    head = runner.invoke(app, ["audit", "head"]).stdout.strip()
    api.http.post(f"/v1/edits/{id}/cancel")
    whole = runner.invoke(app, ["audit", "verify", "--head", head])
    assert (whole.exit_code, whole.stdout.split()[0]) == (0, "whole:")
    listed = runner.invoke(app, ["audit", "list", "--event", "edit.", "--json", "--since", "1h"])
    told = [json.loads(line) for line in listed.stdout.splitlines()]
    assert [one["event"] for one in told] == ["edit.submitted", "edit.canceled", "edit.ended"]
    assert {one["fields"]["id"] for one in told} == {id}
    assert id in runner.invoke(app, ["audit", "list"]).stdout
    assert runner.invoke(app, ["audit", "list", "--tenant", "blue"]).stdout.count(id) == 0

    for path in (tmp_path / "data" / "store" / "audit").rglob("*.json"):
        path.unlink()
    cut = runner.invoke(app, ["audit", "verify", "--head", head])
    assert cut.exit_code == 1
    assert api.store.audit.writer in cut.stdout


def test_an_api_tells_the_head_of_the_log_by_itself(
    settings: Settings,
) -> None:
    services = Services(settings)

    async def tell() -> MutableMapping[str, Any]:
        with structlog.testing.capture_logs() as logged:
            async with background(services, with_keeper=False, first_head_seconds=0.2):
                limit = time.monotonic() + 20
                while not (told := [one for one in logged if one["event"] == "audit head"]):
                    assert time.monotonic() < limit
                    await asyncio.sleep(0.05)
        await services.close()
        return told[0]

    head = asyncio.run(tell())
    assert len(find_head(services.store.objects, head["head"]).tips) == head["chains"] >= 1
    assert check_log(services.store.objects, heads=[head["head"]]).problems == ()


def test_an_api_at_its_start_says_which_policy_is_in_force(settings: Settings) -> None:
    for event in ("policy.changed", "policy.loaded"):
        with running_api(settings) as api:
            api.http.get("/v1/edits")
            assert lines(api)[-1].event == event
            assert lines(api)[-1].fields["sha256"] == Policy().sha256


def test_a_webhook_that_is_refused_leaves_no_line(locked: tuple[Api, str]) -> None:
    api, _ = locked
    nowhere = {"url": "https://10.0.0.1/"}
    assert api.http.post("/v1/webhooks", json=nowhere).status_code == 422
    made = api.http.post("/v1/webhooks", json={"url": "https://hooks.example.com/"}).json()
    assert api.http.patch(f"/v1/webhooks/{made['id']}", json=nowhere).status_code == 422
    assert [one.event for one in lines(api) if one.event.startswith("webhook.")] == [
        "webhook.created"
    ]
