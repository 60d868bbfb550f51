"""A user without any stored service, and the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.app.cli.command import Scalpel


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's configuration folder."""
    folder = tmp_path / "config"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    for name in ("SCALPEL_URL", "SCALPEL_API_KEY", "SCALPEL_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def command(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Scalpel:
    return Scalpel(capsys, monkeypatch)
