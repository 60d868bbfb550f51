"""Events of an edit as they happen, across connections that break."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import httpx

from scalpel_client._async.transport import AsyncTransport
from scalpel_client._shared.retries import delay, may_repeat
from scalpel_client._shared.sse import Decoder, ServerEvent
from scalpel_client.errors import APIError
from scalpel_client.models import Event

EVENT_STREAM = "text/event-stream"
_STEADY_SECONDS = 5.0
"""A connection that lasted longer is no sign of a server that is away."""
_FINAL = ("edit.succeeded", "edit.failed", "edit.canceled")


async def follow(
    transport: AsyncTransport, path: str, after: int | None = None
) -> AsyncIterator[Event]:
    """The events behind number `after`, or all, up to the final one; none twice.

    Raises:
        APIError: the API refuses, or cannot be reached any more.
    """
    last, repeats, decoder = after, 0, Decoder()
    while True:
        headers = {"Accept": EVENT_STREAM, **({"Last-Event-ID": str(last)} if last else {})}
        opened, broken = time.monotonic(), None
        try:
            async with transport.stream("GET", path, headers=headers) as response:
                if response.status_code == 204:
                    return
                async for received in server_events(response, decoder):
                    event = Event.model_validate(received.data)
                    repeats = 0
                    last = last if event.id is None else event.id
                    yield event
                    if event.type in _FINAL:
                        return
            repeats = 0
        except APIError as error:
            if time.monotonic() > opened + _STEADY_SECONDS:
                repeats = 0
            if repeats >= transport.max_retries or not may_repeat(error, "GET"):
                raise
            broken = error
        await asyncio.sleep(max(decoder.retry_seconds or 0.0, delay(repeats, broken)))
        repeats += 1


async def server_events(
    response: httpx.Response, decoder: Decoder | None = None
) -> AsyncIterator[ServerEvent]:
    """The events of one response."""
    decoder = decoder or Decoder()
    decoder.restart()
    async for line in response.aiter_lines():
        event = decoder.feed(line)
        if event is not None:
            yield event
