"""How much of a tenant's work waits before a piece of it, as far as Redis knows what is worked on.

Tenants take turns, so what others have waiting says little; and it is not the tenant's business.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.events.live_state import LiveState
from models_store.work.store import Work, WorkStore

_MOST_HELD = 256
"""A tenant's oldest work goes first, so what is worked on is among the first of it."""


@dataclass(frozen=True)
class QueueLine:
    """A tenant's work that waits at one moment, by age."""

    open_ids: Sequence[str]
    """Oldest first."""
    held_ids: Sequence[str] | None
    """Those that are worked on, likewise; None while Redis is away."""

    @classmethod
    def read(cls, work: WorkStore, live: LiveState, tenant: str) -> QueueLine:
        open_ids = sorted(work.objects.children(f"open/{tenant}"), key=_ulid)
        held = live.leased(open_ids[:_MOST_HELD])
        return cls(open_ids, None if held is None else sorted(held, key=_ulid))

    def position(self, work: Work) -> int | None:
        """1 for the oldest; None for what does not wait."""
        if self.held_ids is None or work.status != "queued":
            return None
        older, held = (
            bisect_left(ids, _ulid(work.id), key=_ulid) for ids in (self.open_ids, self.held_ids)
        )
        return 1 + older - held


def _ulid(id: str) -> str:
    return id[-26:]
