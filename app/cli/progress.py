"""Waiting for work: stage, progress and time left, drawn in a terminal or written to a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from app.cli.client import ApiError, Client
from app.cli.console import notes
from app.domain.edits.shares import USUAL, share_done

_LOGGED_SECONDS = 30.0
"""Between two lines of a log in one stage."""


def finished(
    client: Client, path: str, *, request: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Show a piece of work until it has ended, and return it; Ctrl-C ends the showing alone.

    Args:
        path: its own, such as `/v1/edits/edit_…`.
        request: of an edit, to estimate how long it will take.

    Raises:
        ApiError: it did not succeed.
    """
    try:
        estimate = None if request is None else expected(client, request)
        work = show(client, path, notes, estimate=estimate)
    except KeyboardInterrupt:
        id = path.rpartition("/")[2]
        again = f"`scalpel watch {id}` shows it again, `scalpel cancel {id}` ends it"
        if path.startswith("/v1/base_models/"):
            again = "`scalpel models base` shows how far it is"
        notes.print(f"{id} goes on; {again}", markup=False, soft_wrap=True)
        sys.exit(130)
    if work["status"] != "succeeded":
        error = work["error"] or {"code": work["status"], "message": "it was canceled"}
        raise ApiError(f"{work['id']} {work['status']}: {error['message']} ({error['code']})")
    return work


def show(
    client: Client,
    path: str,
    console: Console,
    *,
    estimate: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Draw stage and progress until a piece of work is final, and return it.

    Args:
        estimate: seconds of the parts of such an edit, `fit`, `search` and `test`.
    """
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(None if console.width < 60 else 30),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    last: dict[str, Any] = {}
    shown, logged_at, begun = "", time.monotonic(), None
    drawn = console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not drawn) as bars:
        task = bars.add_task("queued", total=None, left="")
        for last in client.follow(path):
            if last["finished_at"] is not None:
                break
            stage = last.get("stage")
            label = stage or last["status"]
            if begun is None and stage:
                begun = time.monotonic()
            elapsed = 0.0 if begun is None else time.monotonic() - begun
            done = share_done(stage, last.get("progress") or 0.0, estimate or USUAL)
            left = time_left(done, elapsed, sum(estimate.values()) if estimate else None)
            if last.get("queue_position"):
                left = f"number {last['queue_position']} of your queue"
            total = 1.0 if done else None
            bars.update(task, description=label, completed=done, total=total, left=left)
            due = time.monotonic() - logged_at > _LOGGED_SECONDS
            if not drawn and (label != shown or due):
                shown, logged_at = label, time.monotonic()
                share = f"{done:4.0%}" if stage else " " * 4
                console.print(f"  {label:<10} {share}  {left}".rstrip())
    return last


def expected(client: Client, body: Mapping[str, Any]) -> dict[str, float] | None:
    """Seconds of the parts of an edit; None where they cannot be estimated now."""
    try:
        seconds = client.post("/v1/edits/estimate", dict(body))["seconds"]
    except ApiError:
        return None
    return {part: float(seconds[part]) for part in USUAL}


def time_left(done: float, elapsed: float, estimate: float | None) -> str:
    """In words: by the pace so far, and the less is done the more by the estimate, in seconds."""
    if done == 0 and estimate is None:
        return ""
    by_pace = elapsed * (1 - done) / done if done else 0.0
    by_estimate = by_pace if estimate is None else estimate * (1 - done)
    left = done * by_pace + (1 - done) * by_estimate
    return "less than a minute left" if left < 60 else f"about {left / 60:.0f} min left"
