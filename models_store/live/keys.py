"""Names of everything that Scalpel keeps in Redis. All of it may be lost at any time."""

from __future__ import annotations

PREFIX = "scalpel"

KEEPER = f"{PREFIX}:keeper"
"""Lease of the keeper that leads: its token."""
COURIER = f"{PREFIX}:courier"
"""Lease of the courier that delivers to webhooks: its token."""
EDITORS = f"{PREFIX}:editor:"
"""Heartbeats of editors, one key each: JSON, gone a few seconds after the editor."""
GENERATORS = f"{PREFIX}:generator:"
"""Heartbeats of generators, one key each: JSON with the address and the base models held."""

LEASES = f"{PREFIX}:lease:"
WAKE = f"{PREFIX}:wake"
"""List: anything in it makes the keeper look at open work at once."""
SWEPT = f"{PREFIX}:swept"
"""Set for a day by the keeper that swept the store; others then skip it."""


def queue(pool: str) -> str:
    """Name of the RQ queue of a pool of editors."""
    return f"{PREFIX}-{pool}"


def lease(work_id: str) -> str:
    """Lease of the attempt that works on it: `{attempt}:{token}`."""
    return f"{LEASES}{work_id}"


def progress(work_id: str) -> str:
    """Hash: stage, progress (0 to 1), attempt."""
    return f"{PREFIX}:progress:{work_id}"


def events(work_id: str) -> str:
    """Stream of stage and progress events, which may be lost."""
    return f"{PREFIX}:events:{work_id}"


def last_job(work_id: str) -> str:
    """Hash: attempt, number and time of the last job that was enqueued."""
    return f"{PREFIX}:ring:{work_id}"


def death(work_id: str) -> str:
    """An editor's notice that its process for this work has ended."""
    return f"{PREFIX}:death:{work_id}"


def bucket(of: str, tenant: str) -> str:
    """When a tenant's bucket of requests or tokens is full again: milliseconds."""
    return f"{PREFIX}:bucket:{of}:{tenant}"
