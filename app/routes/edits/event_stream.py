"""The events of an edit as a stream that can be resumed (server-sent events).

The store is looked at again and again, and Redis with it; what a client is sent never goes back
to an id before one that it has seen.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import anyio
from fastapi.concurrency import run_in_threadpool

from app.domain.events.events import Event, durable_events, final_id, merged
from app.domain.events.live_state import LiveState
from app.http.sse import RECONNECT, comment, sse
from app.services import Services
from models_store.errors import NotFound, Unavailable
from models_store.work.store import Place, Work, WorkStore

LOOK_SECONDS = 0.25
KEEP_ALIVE_SECONDS = 15.0


def all_events(work: Work, live: LiveState) -> list[Event]:
    """Every event that has an id, by id: those of the records, and stages that Redis remembers."""
    stages = (event for _, event in live.events(work.id))
    return merged(durable_events(work), stages, work.attempt)


def has_seen_all(work: Work, last_id: int) -> bool:
    """Whether a client that has seen `last_id` has seen the final event."""
    return work.result is not None and last_id >= final_id(work.result)


async def event_stream(services: Services, work: Work, last_id: int) -> AsyncIterator[bytes]:
    """The events after `last_id`, as they happen, up to the final one."""
    look = _Look(services.store.work, services.live, work, last_id)
    last_sent = time.monotonic()
    yield comment("connected")
    while True:
        if services.draining.is_set():
            yield RECONNECT
            return
        try:
            events = await run_in_threadpool(look)
        except Unavailable:
            yield RECONNECT  # another moment, or another server, may reach the store
            return
        except NotFound:
            return  # deleted
        for event in events:
            yield sse(event, event.type, event.id)
        if look.ended:
            return
        now = time.monotonic()
        if events:
            last_sent = now
        elif now > last_sent + KEEP_ALIVE_SECONDS:
            yield comment("still here")
            last_sent = now
        await anyio.sleep(LOOK_SECONDS)


@dataclass
class _Look:
    """Calling it gives what is new since the call before."""

    store: WorkStore
    live: LiveState
    work: Work
    last_id: int
    ended: bool = False
    _names: frozenset[str] = frozenset()
    _position: str = "-"
    """In the Redis stream."""
    _stages: list[Event] = field(default_factory=list)

    def __call__(self) -> list[Event]:
        # The records first: then whatever happened before them is in Redis by now.
        self._read_records()
        fresh = self.live.events(self.work.id, after=self._position)
        if fresh:
            self._position = fresh[-1][0]
        self._stages += [event for _, event in fresh if event.id is not None]
        events = merged(durable_events(self.work), self._stages, self.work.attempt)
        new = [event for event in events if event.id is not None and event.id > self.last_id]
        self.last_id = max((event.id for event in new if event.id), default=self.last_id)
        self.ended = self.work.result is not None
        return new if self.ended else new + self._progress([event for _, event in fresh])

    def _progress(self, fresh: list[Event]) -> list[Event]:
        """The newest progress; what came before it says nothing any more."""
        progress = [
            event
            for event in fresh
            if event.id is None and event.data.get("attempt") == self.work.attempt
        ]
        return progress[-1:]

    def _read_records(self) -> None:
        """Read the edit again if a record was added since the last look."""
        request = self.work.request
        folder = Place("edit", request.tenant, request.id).folder
        names = frozenset(self.store.objects.paths(folder))
        if names != self._names:
            self.work = self.store.read("edit", request.tenant, request.id)
            self._names = names
