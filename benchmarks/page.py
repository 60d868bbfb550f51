"""Sections of docs/performance.md that scripts write."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import psutil
import torch

from workers.runtime.loading import cpu_capability

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"


def write_section(name: str, body: str, page: Path = PAGE) -> None:
    """Put `body` and a line about the machine between the marks of section `name`.

    Raises:
        ValueError: the page has no such marks.
    """
    begin, end = f"<!-- written by {name} -->\n", f"<!-- end of {name} -->\n"
    text = page.read_text()
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{page.name} has no section of {name}")
    page.write_text(f"{before}{begin}{body.strip()}\n\n{_machine()}\n{end}{after}")


def _machine() -> str:
    return (
        f"*{datetime.now(UTC):%Y-%m-%d}, {psutil.cpu_count()} cores, {cpu_capability()}, "
        f"torch {torch.__version__.partition('+')[0]}.*"
    )
