"""Services that are stored with their keys."""

from __future__ import annotations

import io
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cli.profiles import connect
from app.domain.accounts.api_keys import ApiKeys
from models_store.settings import Settings
from tests.app.cli.command import Scalpel
from tests.support.services import Api, running_api


@pytest.fixture
def locked(settings: Settings) -> Iterator[Api]:
    """A service that wants keys."""
    with running_api(settings.model_copy(update={"auth": "keys"})) as api:
        yield api


@pytest.fixture
def secret(locked: Api) -> str:
    return ApiKeys(locked.store.objects).create(name="me", scopes=["edits:read"])[0]


def stored(config: Path) -> dict[str, dict[str, str]]:
    profiles: dict[str, dict[str, str]] = json.loads(
        (config / "scalpel" / "profiles.json").read_text()
    )["profiles"]
    return profiles


def test_a_key_is_tried_then_kept_for_its_owner_alone(
    command: Scalpel, locked: Api, secret: str, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("sk-wrong\n"))
    refused = command("login", locked.url)
    assert (refused.code, not config.exists()) == (4, True)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{secret}\n"))
    done = command("login", locked.url)
    assert done.code == 0, done.err
    assert secret not in done.out + done.err
    file = config / "scalpel" / "profiles.json"
    assert stored(config) == {"default": {"url": locked.url, "key": secret}}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert "no such edits" in command("list").err
    assert command("cancel", "edit_x").code == 4  # a scope that the key lacks
    command("logout")
    assert stored(config) == {}
    assert command("list", "--url", locked.url).code == 4


def test_profiles_are_chosen_by_name(
    command: Scalpel, locked: Api, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(secret))
    assert command("login", locked.url, "--profile", "staging").code == 0
    assert command("list", "--profile", "staging").code == 0
    monkeypatch.setenv("SCALPEL_PROFILE", "staging")
    assert command("list").code == 0
    unknown = command("list", "--profile", "other")
    assert (unknown.code, "has stored staging" in unknown.err) == (2, True)
    assert command("login", locked.url, "--profile", "../x").code == 2


def test_a_stored_key_goes_to_its_own_address_only(
    command: Scalpel, locked: Api, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(secret))
    assert command("login", locked.url).code == 0

    def header(url: str, key: str = "") -> str | None:
        with connect(url, key) as client:
            value: str | None = client._http.headers.get("Authorization")
            return value

    assert header("") == header(locked.url + "/") == f"Bearer {secret}"
    assert header("http://127.0.0.1:1") is None
    assert header("http://127.0.0.1:1", "sk-other") == "Bearer sk-other"
    assert header("", "sk-other") == "Bearer sk-other"


def test_a_profile_that_is_named_puts_the_environment_out_of_force(
    command: Scalpel, locked: Api, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(secret))
    assert command("login", locked.url, "--profile", "staging").code == 0
    monkeypatch.setenv("SCALPEL_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("SCALPEL_API_KEY", "sk-of-another-service")
    assert command("list", "--profile", "staging").code == 0
    assert (
        command("canary", "exp_x", "--server", "x", "--model", "m", "--profile", "staging").code
        == 2
    )
    monkeypatch.setenv("SCALPEL_PROFILE", "staging")
    assert command("list").code == 3
    both = command("list", "--profile", "staging", "--url", locked.url)
    assert (both.code, "give it or --url" in both.err) == (2, True)


def test_a_file_that_is_broken_is_named(command: Scalpel, config: Path) -> None:
    (config / "scalpel").mkdir(parents=True)
    (config / "scalpel" / "profiles.json").write_text("{")
    ended = command("list")
    assert (ended.code, "profiles.json cannot be read" in ended.err) == (2, True)


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("http://127.0.0.1:1", 3, "nothing answers at http://127.0.0.1:1"),
        ("nowhere", 2, "'nowhere' is no address"),
        ("http://127.0.0.1:x", 2, "is no address"),
    ],
)
def test_an_address_without_a_service_is_named(
    command: Scalpel, url: str, code: int, said: str
) -> None:
    ended = command("list", "--url", url)
    assert ended.code == code
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1
