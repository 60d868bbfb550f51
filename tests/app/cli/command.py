"""The command line as somebody has it who talks to a service, with its exit code and outputs."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import pytest

from app.cli.main import main
from tests.support.services import Api


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


class Scalpel:
    """Runs `scalpel` in this process, by its entry point."""

    def __init__(self, capture: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self._capture = capture
        self._patch = patch

    def at(self, api: Api) -> Scalpel:
        self._patch.setenv("SCALPEL_URL", api.url)
        return self

    def __call__(self, *words: Any) -> Done:
        self._patch.setattr(sys, "argv", ["scalpel", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = self._capture.readouterr()
        return Done(int(ended.value.code or 0), said.out, said.err)

    def done(self, *words: Any) -> str:
        """The output of a command that succeeds."""
        ended = self(*words)
        assert ended.code == 0, ended.err
        return ended.out
