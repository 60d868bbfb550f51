"""What a tenant may have: open work, and bytes in the store.

Both are counted in the store, which a flush of Redis cannot reset, and the counts are remembered
for a while. What this process lets in meanwhile is added, so one process never lets in too much;
several of them may together, by what they accept between two counts.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from threading import Lock

from app.domain.accounts.limits import LimitTable
from app.domain.accounts.stored_bytes import StoredBytes
from models_store.errors import LimitUse, QuotaExceeded
from models_store.objects.store import ObjectStore

_WORK_SECONDS = 2.0
_BYTES_SECONDS = 15.0
"""How long a count is good for."""
_MOST_SHARE = 0.05
"""Of the time, to be spent on counting."""
RECORDS_BYTES = 4096
"""What records of a new piece of work come to, about, or a version of an alias."""
_RETRY_WORK_SECONDS = 10
_RETRY_BYTES_SECONDS = 60


class Tally:
    """One number of one tenant: counted now and then, kept up in between."""

    def __init__(self, count: Callable[[bool], int], seconds: float) -> None:
        """Args:
        count: what there is; the argument is whether to look for what has gone, too.
        seconds: how long a count is good for.
        """
        self._count = count
        self._seconds = seconds
        self._counted = 0
        self._cost = 0.0
        """Seconds that the last count took."""
        self._ended = float("-inf")
        self._entering: dict[object, int] = {}
        self._entered: list[tuple[float, int]] = []
        """What came in, and when, that the last count may not have seen."""
        self._came = 0
        """The sum of that."""
        self._lock = Lock()

    @contextlib.contextmanager
    def entering(self, amount: int, most: int) -> Iterator[int | None]:
        """Let `amount` in, unless there would be more than `most` then.

        Yields:
            What there is without it, where it is too much; else None. It counts from here on, and
            no longer if an exception leaves the block.
        """
        token = object()
        with self._lock:
            pause = self._cost / _MOST_SHARE
            age = time.monotonic() - self._ended
            if age > max(self._seconds, pause):
                self._recount()
            if self._total + amount > most and age > pause:
                self._recount(whole=True)
            full = self._total if self._total + amount > most else None
            if full is None:
                self._entering[token] = amount
        try:
            yield full
        except BaseException:
            with self._lock:
                self._entering.pop(token, None)
            raise
        with self._lock:
            if self._entering.pop(token, None) is not None:
                self._entered.append((time.monotonic(), amount))
                self._came += amount

    @property
    def _total(self) -> int:
        return self._counted + sum(self._entering.values()) + self._came

    def _recount(self, *, whole: bool = False) -> None:
        began = time.monotonic()
        self._counted = self._count(whole)
        self._ended = time.monotonic()
        self._cost = self._ended - began
        self._entered = [(at, amount) for at, amount in self._entered if at >= began]
        self._came = sum(amount for _, amount in self._entered)


class Quotas:
    """Checked before anything new is written; safe to use from several threads."""

    def __init__(self, objects: ObjectStore, limits: LimitTable) -> None:
        self._objects = objects
        self._limits = limits
        self._tallies: dict[tuple[str, str], Tally] = {}
        self._lock = Lock()

    @contextlib.contextmanager
    def room_for_work(self, tenant: str, bytes: int) -> Iterator[None]:
        """Room for one more piece of work, which is submitted inside.

        Raises:
            QuotaExceeded: too many have not ended, or too much is stored.
        """
        most = self._limits.of(tenant).queued_edits
        with self._open(tenant).entering(1, most) as there:
            if there is not None:
                raise QuotaExceeded(
                    f"{there} edits and exports of yours have not ended, and at most {most} may "
                    "wait: cancel some, or wait until one has ended",
                    retry_after=_RETRY_WORK_SECONDS,
                    use=LimitUse("queued-edits", most, 0),
                )
            with self.room_for_bytes(tenant, bytes + RECORDS_BYTES):
                yield

    @contextlib.contextmanager
    def room_for_bytes(self, tenant: str, bytes: int) -> Iterator[None]:
        """Room in the store for so many bytes, which are written inside.

        Raises:
            QuotaExceeded: there is too little.
        """
        most = self._limits.of(tenant).stored_bytes
        with self._stored(tenant).entering(bytes, most) as there:
            if there is not None:
                raise QuotaExceeded(
                    f"you have {there} bytes stored, and with {bytes} more it would be over your "
                    f"{most}: delete edits, exports, behaviours or files",
                    retry_after=_RETRY_BYTES_SECONDS,
                    use=LimitUse("stored-bytes", most, max(0, most - there)),
                )
            yield

    def _open(self, tenant: str) -> Tally:
        def count(whole: bool) -> int:
            return len(self._objects.children(f"open/{tenant}"))

        return self._tally("open", tenant, count, _WORK_SECONDS)

    def _stored(self, tenant: str) -> Tally:
        count = StoredBytes(self._objects, tenant).count
        return self._tally("stored", tenant, count, _BYTES_SECONDS)

    def _tally(self, what: str, tenant: str, count: Callable[[bool], int], seconds: float) -> Tally:
        with self._lock:
            tally = self._tallies.get((what, tenant))
            if tally is None:
                tally = self._tallies[what, tenant] = Tally(count, seconds)
            return tally
