"""Reads of artifacts in the audit log: counted, so that a reader does not fill it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from pydantic import JsonValue

from models_store.audit.log import MOST_LINES, AuditLog, Event
from models_store.errors import Unavailable
from models_store.schemas.records import Actor

HOUR_SECONDS = 3600.0
_MOST = 10_000
"""Reads that are counted at a time; further ones get a line each."""


@dataclass(frozen=True)
class _Read:
    event: str
    tenant: str
    actor: Actor
    fields: tuple[tuple[str, JsonValue], ...]

    def counted(self, further_reads: int) -> Event:
        fields = {**dict(self.fields), "further_reads": further_reads}
        return Event(self.event, self.tenant, self.actor, fields)


class ReadLog:
    """The first read of something by a key in an hour gets a line before it is let through; those
    after it in that hour get one line together, with `further_reads`. Thread-safe.
    """

    def __init__(self, audit: AuditLog, now: Callable[[], float] = time.time) -> None:
        """Args:
        now: Unix seconds.
        """
        self._audit = audit
        self._now = now
        self._hour = self._this_hour
        self._further: Counter[_Read] = Counter()
        """How often each was read in this hour after its line."""
        self._unwritten: list[Event] = []
        """Counts of hours before."""
        self._lock = Lock()

    def log(self, event: str, *, tenant: str, actor: Actor, **fields: JsonValue) -> None:
        """Log that something is about to be read.

        Raises:
            Unavailable: its line cannot be written; it must not be read.
        """
        read = _Read(event, tenant, actor, tuple(fields.items()))
        if self._this_hour != self._hour:
            self.write_counts()
        with self._lock:
            if read in self._further:
                self._further[read] += 1
                return
        self._audit.append(event, tenant=tenant, actor=actor, **fields)
        with self._lock:
            if len(self._further) < _MOST:
                self._further.setdefault(read, 0)

    def write_counts(self) -> None:
        """Write a line for all that was read again since the last time.

        Raises:
            Unavailable: the log cannot be written; the counts are kept.
        """
        with self._lock:
            self._hour = self._this_hour
            counts, self._further = self._further, Counter()
            self._unwritten += [read.counted(count) for read, count in counts.items() if count]
        while True:
            with self._lock:
                batch = self._unwritten[:MOST_LINES]
                del self._unwritten[:MOST_LINES]
            if not batch:
                return
            try:
                self._audit.extend(batch)
            except Unavailable:
                with self._lock:
                    self._unwritten[:0] = batch
                raise

    @property
    def _this_hour(self) -> int:
        return int(self._now() // HOUR_SECONDS)
