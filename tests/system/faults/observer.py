"""A thread that reads an edit all the time and records every status."""

from __future__ import annotations

import threading
import time
from typing import Self

from models_store.schemas.records import FINAL
from models_store.work.store import Work, WorkStore

_ORDER = ("queued", "running", "final")


class Observer:
    """A context in which a thread reads the edit."""

    def __init__(self, store: WorkStore, id: str, tenant: str = "default") -> None:
        self._store = WorkStore(store.objects)  # without a cache
        self._id = id
        self._tenant = tenant
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.statuses: list[str] = []
        self.endings: set[tuple[str, str | None, str]] = set()
        """Status, digest of the delta and writer of every final state."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopped.set()
        self._thread.join()

    def check(self, status: str = "succeeded") -> None:
        """Check that there was one ending, and that no status went back."""
        self._look()
        steps = [_ORDER.index("final" if s in FINAL else s) for s in self.statuses]
        assert steps == sorted(steps), self.statuses
        assert len(self.endings) == 1, self.endings
        ((seen, digest, _),) = self.endings
        assert seen == status
        assert (digest is not None) == (status == "succeeded")

    def _watch(self) -> None:
        while not self._stopped.is_set():
            self._look()
            time.sleep(0.05)

    def _look(self) -> None:
        work: Work = self._store.read("edit", self._tenant, self._id)
        if not self.statuses or self.statuses[-1] != work.status:
            self.statuses.append(work.status)
        if work.result is not None:
            delta = work.result.artifact("delta")
            digest = delta.sha256 if delta is not None else None
            self.endings.add((work.status, digest, work.result.writer))
