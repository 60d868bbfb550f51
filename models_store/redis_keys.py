"""Names of everything that Scalpel keeps in Redis. All of it may vanish at any moment."""

from __future__ import annotations

PREFIX = "scalpel"

KEEPER = f"{PREFIX}:keeper"
"""Lease of the keeper that leads: its token."""
EDITORS = f"{PREFIX}:editor:"
"""Heartbeats of editors, one key each: JSON, gone a few seconds after the editor."""
GENERATORS = f"{PREFIX}:generator:"
"""Heartbeats of generators, one key each: JSON with the address and the base models held."""


def queue(pool: str) -> str:
    """Name of the RQ queue of a pool of editors."""
    return f"{PREFIX}-{pool}"


def lease(work_id: str) -> str:
    """Lease of the attempt that works on it: `{attempt}:{token}`."""
    return f"{PREFIX}:lease:{work_id}"


def progress(work_id: str) -> str:
    """Hash: stage, progress (0 to 1), attempt."""
    return f"{PREFIX}:progress:{work_id}"


def events(work_id: str) -> str:
    """Stream of the stage and progress events, the ones that may be lost."""
    return f"{PREFIX}:events:{work_id}"


def ring(work_id: str) -> str:
    """Hash: attempt, number and time of the last ring of the bell."""
    return f"{PREFIX}:ring:{work_id}"


def job(work_id: str) -> str:
    """Id of the RQ job that runs the current attempt, for the stop command."""
    return f"{PREFIX}:job:{work_id}"
