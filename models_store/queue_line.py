"""How much of a tenant's work waits before a piece of it, as far as Redis knows what is worked on.

Tenants take turns, so what others have waiting says little; and it is not the tenant's business.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from models_store.live_state import LiveState
from models_store.work import Work, WorkStore

_MOST_HELD = 256
"""A tenant's oldest work goes first, so what is worked on is among the first of it."""


@dataclass(frozen=True)
class QueueLine:
    """A tenant's work that waits at one moment, by age."""

    waiting: tuple[str, ...] | None
    """ULIDs, oldest first; None while Redis is away."""

    @classmethod
    def read(cls, work: WorkStore, live: LiveState, tenant: str) -> QueueLine:
        open_ids = work.objects.children(f"open/{tenant}")
        ulids = sorted(map(_ulid, open_ids))
        oldest = set(ulids[:_MOST_HELD])
        held = live.leased([id for id in open_ids if _ulid(id) in oldest])
        if held is None:
            return cls(None)
        gone = set(map(_ulid, held))
        return cls(tuple(ulid for ulid in ulids if ulid not in gone))

    def position(self, work: Work) -> int | None:
        """1 for the oldest; None for what does not wait."""
        if self.waiting is None or work.status != "queued":
            return None
        return 1 + bisect_left(self.waiting, _ulid(work.id))


def _ulid(id: str) -> str:
    return id[-26:]
