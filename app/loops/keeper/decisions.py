"""The keeper's decisions, as functions without a store or Redis."""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from models_store.live.leases import DeathNotice, LeaseSeen
from models_store.schemas.records import Claim, ErrorInfo
from models_store.settings import Settings
from models_store.work.store import Place, Work

_LONGEST_PAUSE_SECONDS = 30.0
T = TypeVar("T")


@dataclass
class Pulse:
    """When a running attempt last gave a sign of life; times are `time.monotonic()`."""

    attempt: int
    last_sign: float
    missed: int = 0
    """Looks in a row without a lease."""

    def look(self, now: float, lease: LeaseSeen | None, lease_seconds: float) -> None:
        if lease is None or lease.attempt != self.attempt:
            self.missed += 1
            return
        self.missed = 0
        self.last_sign = max(self.last_sign, now - lease_seconds + lease.seconds_left)

    def is_lost(self, now: float, seeing_since: float, lease_seconds: float) -> bool:
        """Whether the attempt must be dead.

        Args:
            seeing_since: since when the keeper can see all leases. After Redis was flushed or away,
                or the keeper suspended, live attempts need time to write theirs.
        """
        silent = now - max(self.last_sign, seeing_since)
        return self.missed >= 2 and silent >= lease_seconds


def is_about(notice: DeathNotice | None, claim: Claim) -> bool:
    """Whether a notice is about the process that made the claim."""
    return notice is not None and (notice.worker, notice.host, notice.pid) == (
        claim.worker,
        claim.host,
        claim.pid,
    )


def verdict(work: Work, now: float | None, settings: Settings) -> ErrorInfo | None:
    """Why no further attempt at this work is made; None when one is due.

    Args:
        now: Unix seconds; None: that is not known for sure, so no deadline is over.
    """
    ends = [end for end in work.ends if end is not None]
    deaths = sum(end.child_died for end in ends)
    if deaths >= settings.max_deaths or len(ends) >= settings.max_attempts:
        reasons = "; ".join(
            f"attempt {end.attempt}: {end.error.message if end.error else end.outcome}"
            for end in ends[-settings.max_deaths :]
        )
        what = (
            f"its process died {deaths} times"
            if deaths >= settings.max_deaths
            else f"{len(ends)} attempts were lost or handed back"
        )
        return ErrorInfo(code="worker_lost", message=f"{what} ({reasons})")
    if now is not None and now >= work.request.deadline:
        return ErrorInfo(code="deadline", message="its deadline passed before it was done")
    return None


def due_at(work: Work, now: float) -> float:
    """When the next attempt may begin (Unix seconds).

    Work that was returned to the queue more than once in a row waits, longer each time: the store
    may be away.
    """
    in_a_row = 0
    for end in reversed(work.ends):
        if end is None or end.outcome != "handed_back":
            break
        in_a_row += 1
    last = work.ends[-1] if work.ends else None
    if last is None or in_a_row < 2:
        return 0.0
    # The clock of the process that ended it may be ahead.
    return min(last.ended_at, now) + min(2.0 ** (in_a_row - 1), _LONGEST_PAUSE_SECONDS)


@dataclass(frozen=True)
class DueWork:
    """Work with an attempt that is due and not enqueued."""

    place: Place
    pool: str
    attempt: int
    deadline: float


class Busy(NamedTuple):
    """Running or enqueued work: its tenant and pool."""

    tenant: str
    pool: str


class Turns:
    """Fair order: first the tenant with the least busy work, then the one that waited longest."""

    def __init__(self, most_running: Callable[[str], int] = lambda tenant: sys.maxsize) -> None:
        """Args:
        most_running: limit of a tenant's busy work, in all pools together.
        """
        self._most_running = most_running
        self._served: Counter[str] = Counter()
        self._count = 0

    def choose(
        self, candidates: Iterable[DueWork], room: Mapping[str, int], busy: Iterable[Busy]
    ) -> list[DueWork]:
        """The work to enqueue now.

        A tenant's busy work in one pool does not delay it in another.

        Args:
            candidates: within a tenant, the smallest id, which is the oldest, comes first.
            room: idle editors by pool.
            busy: running and enqueued work of all pools.
        """
        left = {pool: count for pool, count in room.items() if count > 0}
        load = Counter(busy)
        running: Counter[str] = Counter()
        for key, count in load.items():
            running[key.tenant] += count
        fitting = (work for work in candidates if work.pool in left)
        waiting: dict[Busy, deque[DueWork]] = {}
        for work in sorted(fitting, key=lambda work: work.place.id.rpartition("_")[2]):
            waiting.setdefault(Busy(work.place.tenant, work.pool), deque()).append(work)
        chosen = []
        while able := [
            key
            for key in waiting
            if key.pool in left and running[key.tenant] < self._most_running(key.tenant)
        ]:
            key = min(able, key=lambda key: (load[key], self._served[key.tenant], *key))
            chosen.append(waiting[key].popleft())
            if not waiting[key]:
                del waiting[key]
            left[key.pool] -= 1
            if not left[key.pool]:
                del left[key.pool]
            load[key] += 1
            running[key.tenant] += 1
            self._count += 1
            self._served[key.tenant] = self._count
        return chosen


def by_turns(of_tenants: Mapping[str, Sequence[T]]) -> Iterator[T]:
    """Round robin over tenants, each in its order."""
    left = deque(iter(items) for items in of_tenants.values())
    while left:
        items = left.popleft()
        for item in items:
            yield item
            left.append(items)
            break
