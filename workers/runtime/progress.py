"""Progress of work: callbacks, and callbacks for its steps."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[float], None]
"""Told the share that is done, in [0, 1]; may raise to stop the work."""


def span(progress: Progress, start: float, end: float) -> Progress:
    """Progress of a step that takes from `start` to `end` of the whole."""
    return lambda share: progress(start + (end - start) * share)


def span_of(progress: Progress | None, start: float, end: float) -> Progress | None:
    """The same where nobody may be watching."""
    return None if progress is None else span(progress, start, end)
