"""What an earlier version stored is read and shown by this one as it was."""

from __future__ import annotations

import json
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from app.domain.repair import find_damaged
from app.loops.keeper.sweep import sweep
from tests.support.services import Api, RedisServer, api_settings, running_api

FOLDER = Path(__file__).parent
VERSION: str = tomllib.loads((FOLDER.parents[2] / "pyproject.toml").read_text())["project"][
    "version"
]
STORES = sorted(FOLDER.glob("*.zip"))
Answers = dict[str, Any]
_LISTS = ("edits", "exports", "behaviors", "aliases", "models", "base_models")
_OWN = {"/v1/behaviors": {"preset": False}}
"""Presets come with the version."""


def answers(api: Api, paths: list[str]) -> Answers:
    """All lists and these paths."""
    found = {}
    for path in [*(f"/v1/{kind}" for kind in _LISTS), *paths]:
        answer = api.http.get(path, params=_OWN.get(path))
        assert answer.status_code == 200, (path, answer.text)
        found[path] = answer.json()
    return found


def is_still_said(before: Any, now: Any) -> bool:
    """Whether all that was said is said still; a later version may say more."""
    if isinstance(before, dict):
        return isinstance(now, dict) and all(
            name in now and is_still_said(value, now[name]) for name, value in before.items()
        )
    if isinstance(before, list):
        if not isinstance(now, list) or len(now) < len(before):
            return False
        return all(map(is_still_said, before, now))
    return bool(before == now)


@pytest.mark.parametrize("released", STORES, ids=lambda path: path.stem)
def test_a_store_of_a_released_version_is_read(
    released: Path, tmp_path: Path, redis_server: RedisServer
) -> None:
    with zipfile.ZipFile(released) as stored:
        stored.extractall(tmp_path / "data")
    before: Answers = json.loads((tmp_path / "data" / "answers.json").read_text())
    with running_api(api_settings(tmp_path, redis_server)) as api:
        now = answers(api, [path for path in before if path.count("/") > 2])
        for path, said in before.items():
            assert is_still_said(said, now[path]), (path, said, now[path])
        edits = [edit for edit in now["/v1/edits"]["data"] if edit["status"] == "succeeded"]
        assert edits
        for edit in edits:
            delta = api.http.get(f"/v1/edits/{edit['id']}/delta")
            assert delta.status_code == 200
        assert list(find_damaged(api.store.objects)) == []
        assert sweep(api.store.work, lambda: False)["unreadable"] == 0
        assert api.http.delete(f"/v1/edits/{edits[-1]['id']}").status_code in (200, 409)


def test_the_store_of_this_version_is_kept() -> None:
    assert VERSION in [path.stem for path in STORES]
