"""How many wait before a piece of work, as far as Redis knows who is being worked on."""

from __future__ import annotations

from dataclasses import dataclass

from models_store.live_state import LiveState
from models_store.work import Work, WorkStore


@dataclass(frozen=True)
class QueueLine:
    """The work of every tenant that waits at one moment, by age."""

    waiting: tuple[str, ...] | None
    """ULIDs, oldest first; None while Redis is away."""

    @classmethod
    def read(cls, work: WorkStore, live: LiveState) -> QueueLine:
        open_ids = [
            id
            for tenant in work.objects.children("open")
            for id in work.objects.children(f"open/{tenant}")
        ]
        held = live.leased(open_ids)
        if held is None:
            return cls(None)
        return cls(tuple(sorted(_ulid(id) for id in open_ids if id not in held)))

    def position(self, work: Work) -> int | None:
        """1 for the oldest; None for what does not wait."""
        if self.waiting is None or work.status != "queued":
            return None
        own = _ulid(work.id)
        return 1 + sum(ulid < own for ulid in self.waiting)


def _ulid(id: str) -> str:
    return id.rpartition("_")[2]
