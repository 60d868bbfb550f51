"""Stage and progress of an edit, drawn in a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from app.cli.client import Client


def show(client: Client, edit_id: str, console: Console) -> dict[str, Any]:
    """Draw stage and progress until the edit is final, and return it."""
    columns = (TextColumn("{task.description:<22}"), BarColumn(40), TimeElapsedColumn())
    last: dict[str, Any] = {}
    shown = ""
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("queued", total=1.0)
        for last in client.follow(edit_id):
            label = last["stage"] or last["status"]
            bars.update(task, description=label, completed=last["progress"] or 0.0)
            if label != shown:
                shown = label
                bars.console.print(f"  {label}")
    return last
