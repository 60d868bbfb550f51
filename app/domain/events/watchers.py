"""What happens to an edit, looked at once for all who follow it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

from app.domain.events.events import Event, durable_events, merged
from app.domain.events.live_state import LiveState
from models_store.errors import ScalpelError
from models_store.work.store import Place, Work, WorkStore

LOOK_SECONDS = 0.25


class EditWatcher:
    """The events of one edit as they were a moment ago."""

    def __init__(self, store: WorkStore, live: LiveState, work: Work) -> None:
        self.events: list[Event] = []
        """Those that have an id, by id."""
        self.progress: Event | None = None
        """The newest one; what came before it says nothing any more."""
        self.progress_number = 0
        """Grows with each new one."""
        self.ended = False
        self._store = store
        self._live = live
        self._work = work
        self._names: frozenset[str] = frozenset()
        self._position = "-"
        """In the Redis stream."""
        self._stages: list[Event] = []
        self._looked_at = float("-inf")
        self._failure: ScalpelError | None = None
        self._lock = asyncio.Lock()

    async def refresh(self) -> None:
        """Look again, unless somebody has just done so.

        Raises:
            Unavailable: the store is away.
            NotFound: the edit was deleted.
        """
        async with self._lock:
            if time.monotonic() >= self._looked_at + LOOK_SECONDS:
                self._failure = None
                try:
                    await asyncio.to_thread(self._look)
                except ScalpelError as error:
                    self._failure = error  # of all who wait, not of each in turn
                self._looked_at = time.monotonic()
            if self._failure is not None:
                raise self._failure

    def _look(self) -> None:
        # The records first: then whatever happened before them is in Redis by now.
        self._read_records()
        fresh = self._live.events(self._work.id, after=self._position)
        if fresh:
            self._position = fresh[-1][0]
        self._stages += [event for _, event in fresh if event.id is not None]
        self.events = merged(durable_events(self._work), self._stages, self._work.attempt)
        self.ended = self._work.result is not None
        attempt = self._work.attempt
        for _, event in fresh:
            if event.id is None and event.data.get("attempt") == attempt:
                self.progress = event
                self.progress_number += 1

    def _read_records(self) -> None:
        """Read the edit again if a record was added since the last look."""
        request = self._work.request
        folder = Place("edit", request.tenant, request.id).folder
        names = frozenset(self._store.objects.paths(folder))
        if names != self._names:
            self._work = self._store.read("edit", request.tenant, request.id)
            self._names = names


class Watchers:
    """The watchers that somebody needs; for one event loop."""

    def __init__(self) -> None:
        self._watchers: dict[tuple[str, str], tuple[EditWatcher, int]] = {}

    @contextlib.contextmanager
    def watch(self, store: WorkStore, live: LiveState, work: Work) -> Iterator[EditWatcher]:
        """The watcher of an edit, shared with all who are inside at the same time."""
        key = work.request.tenant, work.id
        watcher, users = self._watchers.get(key) or (EditWatcher(store, live, work), 0)
        self._watchers[key] = watcher, users + 1
        try:
            yield watcher
        finally:
            watcher, users = self._watchers.pop(key)
            if users > 1:
                self._watchers[key] = watcher, users - 1
