"""The command line, as far as it needs no worker."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from app.cli.main import app
from app.domain.accounts.api_keys import ALL_SCOPES
from models_store.errors import Conflict, InvalidRequest, ScalpelError
from tests.app.support.worker import Worker, edit_body
from tests.support.services import Api

runner = CliRunner()


@pytest.fixture(autouse=True)
def _data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALPEL_DATA", str(tmp_path))


def key_of(said: str) -> str:
    found = re.search(r"key_[A-Z0-9]{26}", said)
    assert found, said
    return found.group()


def test_a_key_is_made_listed_and_revoked() -> None:
    made = runner.invoke(
        app, ["keys", "create", "support", "--tenant", "blue", "--scope", "edits:read"]
    )
    id = key_of(made.stderr)
    before = runner.invoke(app, ["keys", "list"]).stdout
    revoked = runner.invoke(app, ["keys", "revoke", id])
    after = runner.invoke(app, ["keys", "list"]).stdout

    assert made.stdout.startswith("sk-")
    assert before.split()[:5] == [id, "active", "blue", "support", "edits:read"]
    assert before.split()[5:] == ["expires", "never", "used", "never"]
    assert revoked.exit_code == 0
    assert after.split()[1] == "revoked"
    assert made.stdout.strip() not in before


def test_the_name_of_a_key_does_not_steer_the_terminal() -> None:
    refused = runner.invoke(app, ["keys", "create", "a\x1b[2Jb"])
    assert isinstance(refused.exception, InvalidRequest)
    assert runner.invoke(app, ["keys", "list"]).stdout == ""


def test_a_key_of_a_tenant_gets_what_users_need_and_the_operators_all() -> None:
    for tenant in ("blue", "default"):
        runner.invoke(app, ["keys", "create", "ci", "--tenant", tenant])
    rows = [line.split() for line in runner.invoke(app, ["keys", "list"]).stdout.splitlines()]

    scopes = {row[2]: set(row[4].split(",")) for row in rows}
    assert scopes["blue"] == {"edits:read", "edits:write", "models:generate"}
    assert scopes["default"] == set(ALL_SCOPES)


def test_a_key_is_rotated_and_may_have_an_end() -> None:
    made = runner.invoke(app, ["keys", "create", "ci", "--days", "30"])
    id = key_of(made.stderr)
    rotated = runner.invoke(app, ["keys", "rotate", id, "--overlap-seconds", "0"])
    old, new = runner.invoke(app, ["keys", "list"]).stdout.splitlines()

    assert rotated.stdout.startswith("sk-")
    assert rotated.stdout != made.stdout
    assert old.split()[:2] == [id, "expired"]
    assert new.split()[:2] == [key_of(rotated.stderr), "active"]
    assert new.split()[6].startswith(time.strftime("%Y-", time.gmtime(time.time() + 30 * 86400)))


def test_the_settings_in_force_are_printed_but_for_the_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SCALPEL_INTERNAL_TOKEN", "hush")

    printed = runner.invoke(app, ["config"]).stdout

    assert f"SCALPEL_DATA={tmp_path}" in printed
    assert "hush" not in printed


def test_a_service_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = runner.invoke(app, ["watch", "edit_x", "--url", "http://127.0.0.1:1"])

    assert failed.exit_code != 0
    assert "nothing answers at http://127.0.0.1:1" in str(failed.exception)


def test_an_edit_is_asked_for_as_the_api_would_by_default(api: Api, worker: Worker) -> None:
    asked = ["edit", "pico", "negativity", "--no-wait", "--url", api.url]
    plain, named = (
        api.http.get(f"/v1/edits/{runner.invoke(app, [*asked, *options]).stdout.strip()}").json()
        for options in ((), ("--method", "bias", "--effort", "quick", "--suffix", "kinder"))
    )
    body = {"base_model": "pico", "behavior": "negativity"}
    default = api.http.post("/v1/edits", json=body).json()

    for field in ("method", "effort", "limits", "seed", "suffix"):
        assert plain[field] == default[field], field
    assert (named["method"]["type"], named["effort"]) == ("bias", "quick")
    assert named["suffix"] == "kinder"


def test_a_method_is_named_or_given_as_json(api: Api, worker: Worker) -> None:
    asked = ["edit", "pico", "negativity", "--no-wait", "--url", api.url, "--method"]
    made = runner.invoke(app, [*asked, '{"type": "natural", "fraction": 0.5}']).stdout.strip()
    method = api.http.get(f"/v1/edits/{made}").json()["method"]
    assert (method["type"], method["fraction"]) == ("natural", 0.5)

    failed = runner.invoke(app, [*asked, "{bad"])
    assert isinstance(failed.exception, ScalpelError)
    assert "--method cannot be read as JSON" in failed.exception.message


def test_a_scorer_and_a_file_of_prompts_stand_in_for_a_behaviour(
    api: Api, worker: Worker, tmp_path: Path
) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("\n\n".join(f"Prompt {number} is" for number in range(64)), encoding="utf-8")
    asked = ["edit", "pico", "--no-wait", "--url", api.url]
    by_scorer = ["--scorer", "vader", "--prompts", str(file)]
    made = runner.invoke(app, [*asked, *by_scorer]).stdout.strip()
    shown = api.http.get(f"/v1/edits/{made}").json()["behavior"]
    assert (shown["name"], shown["counts"]["prompts"]) == ("less vader", 64)

    for wrong in ([], by_scorer[:2], ["negativity", *by_scorer]):
        failed = runner.invoke(app, [*asked[:2], *wrong, *asked[2:]])
        assert "give a behaviour, or --scorer and --prompts" in str(failed.exception)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        yield port


def test_up_on_a_taken_port_ends_at_once_and_says_what_to_do(taken: int) -> None:
    result = runner.invoke(app, ["up", "--port", str(taken)])
    assert isinstance(result.exception, Conflict)
    assert f"port {taken}" in result.exception.message
    assert "--port" in result.exception.message


def test_doctor_looks_at_the_port(api: Api, taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(port: int) -> str:
        monkeypatch.setenv("SCALPEL_PORT", str(port))
        lines = runner.invoke(app, ["doctor"]).stdout.splitlines()
        return next(line for line in lines if line.split()[1:2] == ["port"])

    assert said(taken).startswith("fail")
    assert "Scalpel answers there" in said(httpx.URL(api.url).port or 0)


def test_passwords_in_addresses_are_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALPEL_REDIS_URL", "redis://scalpel:very-secret@redis:6379/0")
    printed = runner.invoke(app, ["config"]).stdout
    assert "SCALPEL_REDIS_URL=redis://scalpel:…@redis:6379/0" in printed
    assert "very-secret" not in printed


def test_an_edit_is_canceled(api: Api, worker: Worker) -> None:
    id = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    result = runner.invoke(app, ["cancel", id, "--url", api.url])
    assert result.stdout.strip() == "canceled"
    assert api.http.get(f"/v1/edits/{id}").json()["status"] == "canceled"


def test_ctrl_c_while_watching_says_how_to_go_on(api: Api, worker: Worker) -> None:
    id = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
        result = runner.invoke(app, ["watch", id, "--url", api.url])
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.exit_code == 130
    assert f"scalpel cancel {id}" in result.stderr
