"""How results are written: tables, facts and JSON, with figures rounded for people."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

out = Console(highlight=False)
notes = Console(highlight=False, stderr=True)
"""Progress and hints, so that the output is the result alone."""

_NO_LIMIT = 4000
"""Width of what is no terminal: a program that reads it wants whole lines."""
_CONTROLS = dict.fromkeys((*range(32), *range(127, 160)), "�")
del _CONTROLS[ord("\n")], _CONTROLS[ord("\t")]
_JSON_CONTROLS = {code: f"\\u{code:04x}" for code in range(127, 160)}
"""Those that JSON leaves as they are."""
_COLORS = {
    "succeeded": "green",
    "confirmed": "green",
    "success": "green",
    "applied": "green",
    "failed": "red",
    "harmful": "red",
    "exceeded": "red",
    "canceled": "dim",
    "running": "cyan",
    "queued": "cyan",
    "unconfirmed": "yellow",
    "within_limits": "yellow",
}


@dataclass(frozen=True)
class Column:
    """A column of a table, and how its cells are made of a row."""

    heading: str
    cell: Any
    """A key of the row, or a function of it."""
    spare: int = 0
    """Where the terminal is too narrow, columns are left out from the highest number on; never
    those of 0."""

    def of(self, row: Mapping[str, Any]) -> Text:
        value = row.get(self.cell) if isinstance(self.cell, str) else self.cell(row)
        return colored("" if value is None else str(value))


def print_json(value: Any) -> None:
    """As the API sent it, indented."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False).translate(_JSON_CONTROLS))


def print_table(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows below headings, without lines, as wide as the terminal allows."""
    shown = list(columns)
    console = _console()
    while True:
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for index, column in enumerate(shown):
            table.add_column(column.heading, no_wrap=index == 0, overflow="fold")
        for row in rows:
            table.add_row(*(column.of(row) for column in shown))
        options = console.options.update(width=_NO_LIMIT)
        spare = max(shown, key=lambda column: column.spare)
        if not spare.spare or Measurement.get(console, options, table).maximum <= console.width:
            break
        shown.remove(spare)
    console.print(table)


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Names and values, a line each; those without a value are left out."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        if value is not None and value != "":
            table.add_row(name, value if isinstance(value, Text) else colored(str(value)))
    _console().print(table)


def print_remarks(remarks: Any) -> None:
    """What an edit or a request is warned of, a line each."""
    for remark in remarks:
        place = f" ({remark['pointer']})" if remark["pointer"] else ""
        said = safe(f"note: {remark['detail']}{place}")
        notes.print(said, style="yellow", markup=False, soft_wrap=True)


def colored(text: str) -> Text:
    """Words of a status in their colour; whatever they are, they are not read as markup."""
    return Text(safe(text), style=_COLORS.get(text.split(" ", 1)[0], ""))


def safe(text: str) -> str:
    """What a model or somebody else wrote, without what would steer the terminal."""
    return text.translate(_CONTROLS)


def all_safe(value: Any) -> Any:
    """Every text of a JSON value likewise."""
    if isinstance(value, dict):
        return {name: all_safe(each) for name, each in value.items()}
    if isinstance(value, list):
        return [all_safe(each) for each in value]
    return safe(value) if isinstance(value, str) else value


def ago(unix: float | None) -> str:
    """`5 min ago`; the day where that is long ago."""
    if unix is None:
        return ""
    passed = max(0.0, time.time() - unix)
    for size, unit in ((60, "s"), (3600, "min"), (86_400, "h")):
        if passed < size:
            return f"{passed // (size // 60 if unit != 'h' else 3600):.0f} {unit} ago"
    if passed < 7 * 86_400:
        return f"{passed // 86_400:.0f} d ago"
    return time.strftime("%Y-%m-%d", time.localtime(unix))


def number(value: float | None, digits: int = 3) -> str | None:
    """With so many significant digits: `0.0931`, `1.02`."""
    if value is None:
        return None
    text = f"{value:.{digits}g}"
    return f"{float(text):g}" if "e" in text else text


def _console() -> Console:
    return out if out.is_terminal else Console(highlight=False, width=_NO_LIMIT)
