"""The help, the documentation and the completion of every command."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from app.cli.main import COMMANDS, EXIT_CODES, app
from tests.app.cli.command import Scalpel

PAGE = (Path(__file__).parents[3] / "docs" / "cli.md").read_text(encoding="utf-8")
_LONGEST = 64
"""Characters of a line of help that a terminal of 80 columns shows whole."""


def commands(group: Any, name: str = "scalpel") -> Iterator[tuple[str, Any]]:
    for own, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{name} {own}")
        else:
            yield f"{name} {own}", command


EVERY = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", EVERY)
def test_every_command_is_explained_here_and_in_the_docs(name: str) -> None:
    command = EVERY[name]
    line = (command.help or "").split("\n\n")[0]
    assert line.endswith("."), name
    if name.count(" ") == 1:
        assert len(line) <= _LONGEST, line
    assert f"`{name}`" in PAGE
    for option in command.params:
        assert getattr(option, "help", ""), option.name


def test_the_page_names_no_other_commands_in_its_tables() -> None:
    assert set(re.findall(r"`(scalpel [a-z]+(?: [a-z]+)?)`", PAGE[PAGE.index("## All") :])) <= {
        *EVERY
    }


def test_the_exit_codes_are_those_of_the_page() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", PAGE, re.MULTILINE)
    assert {int(code): text for code, text in rows} == EXIT_CODES


def test_the_help_reads_by_panels_and_has_a_short_form(command: Scalpel) -> None:
    shown = command.done("-h")
    assert [panel for panel in COMMANDS if panel in shown] == list(COMMANDS)
    assert command.done("list", "-h") == command.done("list", "--help")
    assert re.fullmatch(r"scalpel \d+\.\d+\.\d+\n", command.done("--version"))
    assert command("frob").code == 2
    assert command("list", "--frob").code == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_commands_options_and_presets_are_completed(shell: str) -> None:
    def run(words: str, *, source: bool = False) -> str:
        environment = {
            "_SCALPEL_COMPLETE": f"{'source' if source else 'complete'}_{shell}",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
            "_TYPER_COMPLETE_ARGS": words,
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            "PYTHONPATH": ":".join(sys.path),
        }
        code = "import sys; sys.argv[0] = 'scalpel'; from app.cli.main import main; main()"
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        ).stdout

    assert "_SCALPEL_COMPLETE=complete_" in run("", source=True)
    assert "receipt" in run("scalpel rec")
    assert "negativity" in run("scalpel edit pico neg")
    assert "--max-kl" in run("scalpel edit --max")
