"""Canaries over HTTP and from the command line, against a real model with a real adapter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli.main import app
from models_store.errors import ScalpelError
from models_store.schemas.canary import NAME, Canary
from models_store.settings import Settings
from tests.app.support.worker import Worker, edit_body
from tests.canaries.cases import FAILURES, GOOD, Export
from tests.canaries.server import ModelServer, running_server
from tests.support.services import Api, running_api

runner = CliRunner()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With leave to ask servers of this machine."""
    changes = {"outgoing_allow": "127.0.0.0/8", "outgoing_http": True}
    return Settings.model_validate({**settings.model_dump(), **changes})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Export:
    return Export(tmp_path_factory.mktemp("export"), seed=2)


@pytest.fixture(scope="module")
def server(made: Export) -> Iterator[ModelServer]:
    """Models by name: `good` runs the export, the others do not."""
    names = {"base": "no adapter", "half": "half strength", "other": "another base"}
    models = {name: made.served(FAILURES[kind][0](made)) for name, kind in names.items()}
    with running_server({**models, "good": made.served(GOOD["bf16"](made))}) as server:
        yield server


@pytest.fixture
def export(api: Api, worker: Worker, made: Export) -> str:
    """The id of an export that has succeeded."""
    body = edit_body(suffix="kinder")
    worker.succeed(api.http.post("/v1/edits", json=body).json()["id"])
    id = queue(api)
    worker.export(id, {**made.files, NAME: made.canary.model_dump_json().encode()})
    return id


def queue(api: Api) -> str:
    body = {"variant": "pico:kinder", "format": "peft"}
    id: str = api.http.post("/v1/exports", json=body).json()["id"]
    return id


def post(api: Api, id: str, **body: Any) -> Any:
    return api.http.post(f"/v1/exports/{id}/canary", json=body)


def test_the_canary_is_downloaded_and_is_no_file_of_the_export(
    api: Api, export: str, made: Export
) -> None:
    answer = api.http.get(f"/v1/exports/{export}/canary")
    assert answer.headers["Content-Type"] == "application/json"
    assert Canary.model_validate_json(answer.content) == made.canary
    files = {file["name"] for file in api.http.get(f"/v1/exports/{export}").json()["files"]}
    assert files == set(made.files)
    assert api.http.get(f"/v1/exports/{export}/files/{NAME}").status_code == 404


@pytest.mark.parametrize(
    ("model", "outcome"),
    [
        ("good", "applied"),
        ("base", "not_applied"),
        ("half", "other_strength"),
        ("other", "something_else"),
    ],
)
def test_the_api_says_what_a_server_serves(
    api: Api, export: str, server: ModelServer, model: str, outcome: str
) -> None:
    server.requests.clear()
    answer = post(api, export, url=f"{server.url}/v1", model=model, api_key="sk-theirs")
    assert answer.status_code == 200
    found = answer.json()
    assert (found["object"], found["outcome"], found["model"]) == ("canary", outcome, model)
    assert found["certainty"] > 0.9
    expected = {"good": 1.0, "base": 0.0, "half": 0.5, "other": None}[model]
    assert found["strength"] == (expected and pytest.approx(expected, abs=0.1))
    assert len(found["prompts"]) == {"completions": 12, "chat": 8}[found["endpoint"]]
    assert {key for _, _, key in server.requests} == {"Bearer sk-theirs"}


def test_servers_at_other_than_public_addresses_are_not_asked(
    settings: Settings, api: Api, export: str, server: ModelServer
) -> None:
    server.requests.clear()
    with running_api(settings.model_copy(update={"outgoing_allow": ""})) as strict:
        for url in (server.url, server.url.replace("127.0.0.1", "localhost"), "file:///etc/passwd"):
            answer = post(strict, export, url=url, model="good")
            assert answer.status_code == 422
            (error,) = answer.json()["errors"]
            assert (error["pointer"], error["code"]) == ("/url", "address_not_allowed")
    assert server.requests == []


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"model": "m"}, "/url"),
        ({"url": "http://127.0.0.1"}, "/model"),
        ({"url": "http://127.0.0.1", "model": "m", "api_key": "a\nb"}, "/api_key"),
        ({"url": "http://127.0.0.1", "model": "m", "strength": 1}, "/strength"),
    ],
)
def test_a_wrong_field_is_named(api: Api, export: str, body: dict[str, Any], pointer: str) -> None:
    answer = post(api, export, **body)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


def test_an_export_without_a_canary_says_so(api: Api, worker: Worker, export: str) -> None:
    older, failed, waiting = (queue(api) for _ in range(3))
    worker.export(older, {"adapter_config.json": b"{}"})
    worker.fail(failed, "export_mismatch", "export")
    for id, status, code in (
        (older, 404, "no_canary"),
        (failed, 404, "no_files"),
        (waiting, 409, "export_not_finished"),
        ("exp_unknown", 404, "not_found"),
    ):
        for answer in (
            api.http.get(f"/v1/exports/{id}/canary"),
            post(api, id, url="http://127.0.0.1:1", model="m"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_server_that_is_away_is_left_undecided(api: Api, export: str) -> None:
    found = post(api, export, url="http://127.0.0.1:1", model="good").json()
    assert (found["outcome"], found["prompts"]) == ("undecided", [])
    assert found["reason"].startswith("it cannot be asked:")


def test_the_command_line_asks_by_itself(
    api: Api, export: str, server: ModelServer, made: Export, tmp_path: Path
) -> None:
    file = tmp_path / "canary.json"
    file.write_text(made.canary.model_dump_json(), encoding="utf-8")
    asked = ["canary", "--server", server.url, "--model"]

    good = runner.invoke(app, [*asked, "good", "--url", api.url, export])
    assert good.exit_code == 0, good.output
    assert good.stdout.startswith("applied, certainty 99")

    base = runner.invoke(app, [*asked, "base", f"@{file}", "--rows"])
    assert base.exit_code == 1
    assert base.stdout.startswith("not applied: the base model is served, certainty 9")
    assert len(base.stdout.splitlines()) in (3 + 12, 3 + 8)

    half = runner.invoke(app, [*asked, "half", f"@{file}"])
    assert half.exit_code == 1
    assert half.stdout.startswith("applied at another strength (about 0.5), certainty 9")

    shown = runner.invoke(app, [*asked, "unknown", f"@{file}", "--json"])
    assert shown.exit_code == 1
    assert json.loads(shown.stdout)["outcome"] == "undecided"
    assert "there is no model unknown" in json.loads(shown.stdout)["reason"]


def test_the_command_line_asks_for_text_where_there_is_no_more(
    server: ModelServer, made: Export, tmp_path: Path
) -> None:
    file = tmp_path / "canary.json"
    file.write_text(made.canary.model_dump_json(), encoding="utf-8")
    for name in ("good", "base"):
        served = replace(server.models[name], style="texts")
        server.models[f"{name}-texts"] = served
        asked = ["canary", "--server", server.url, "--model", f"{name}-texts", f"@{file}"]
        assert runner.invoke(app, asked).exit_code == (name != "good")


def test_a_file_that_is_no_canary_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "canary.json"
    asked = ["canary", "--server", "http://127.0.0.1:1", "--model", "m", f"@{file}"]
    missing = runner.invoke(app, asked)
    assert "cannot be read" in str(missing.exception)
    file.write_text('{"schema_version": 1}', encoding="utf-8")
    broken = runner.invoke(app, asked)
    assert isinstance(broken.exception, ScalpelError)
    assert "cannot be read as Canary" in broken.exception.message
