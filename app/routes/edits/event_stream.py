"""The events of an edit as a stream that can be resumed (server-sent events).

The store is looked at again and again, and Redis with it; what a client is sent never goes back
to an id before one that it has seen.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable

import anyio

from app.domain.events.events import Event, durable_events, final_id, merged
from app.domain.events.live_state import LiveState
from app.domain.events.watchers import LOOK_SECONDS
from app.http.sse import RECONNECT, comment, sse
from app.services import Services
from models_store.errors import NewerRecord, NotFound, Unavailable
from models_store.work.store import Work

KEEP_ALIVE_SECONDS = 15.0


def all_events(work: Work, live: LiveState) -> list[Event]:
    """Every event that has an id, by id: those of the records, and stages that Redis remembers."""
    stages = (event for _, event in live.events(work.id))
    return merged(durable_events(work), stages, work.attempt)


def has_seen_all(work: Work, last_id: int) -> bool:
    """Whether a client that has seen `last_id` has seen the final event."""
    return work.result is not None and last_id >= final_id(work.result)


async def event_stream(
    services: Services, work: Work, last_id: int, allowed: Callable[[], Awaitable[bool]]
) -> AsyncGenerator[bytes]:
    """The events after `last_id`, as they happen, up to the final one.

    Args:
        allowed: whether the key that asked is still valid.

    Raises:
        QuotaExceeded: `rate_limited`, the tenant follows too many; before anything is sent.
    """
    hold = services.in_flight.hold(work.request.tenant, "streams")
    watch = services.watchers.watch(services.store.work, services.live, work)
    with hold, watch as watcher:
        last_sent, progress_seen = time.monotonic(), 0
        yield comment("connected")
        while True:
            if services.draining.is_set():
                yield RECONNECT
                return
            if not await allowed():
                return
            try:
                await watcher.refresh()
            except (Unavailable, NewerRecord):
                yield RECONNECT  # another moment, or another server, may reach the store
                return
            except NotFound:
                return  # deleted
            # Others refresh it too, so what is sent now is looked at only here.
            ended = watcher.ended
            events = [event for event in watcher.events if (event.id or 0) > last_id]
            last_id = max((event.id or 0 for event in events), default=last_id)
            if watcher.progress is not None and not ended:
                if watcher.progress_number != progress_seen:
                    events.append(watcher.progress)
                progress_seen = watcher.progress_number
            for event in events:
                yield sse(event, event.type, event.id)
            if ended:
                return
            now = time.monotonic()
            if events:
                last_sent = now
            elif now > last_sent + KEEP_ALIVE_SECONDS:
                yield comment("still here")
                last_sent = now
            await anyio.sleep(LOOK_SECONDS)
