"""Server-sent events: how one is written, and the response of a stream of them."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from typing import Any, TypeVar

from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from pydantic import BaseModel

T = TypeVar("T")
EVENT_STREAM = "text/event-stream"


RECONNECT = format_sse_event(retry=2000)
"""Lets the client come back in two seconds."""


def sse(data: Any, type: str | None = None, id: int | None = None) -> bytes:
    """One event: `data` as JSON; `id` is what a client resumes from."""
    text = data.model_dump_json() if isinstance(data, BaseModel) else json.dumps(data)
    return format_sse_event(event=type, data_str=text, id=None if id is None else str(id))


def comment(text: str) -> bytes:
    """What clients ignore, but keeps a connection open."""
    return format_sse_event(comment=text)


async def begun(items: AsyncGenerator[T]) -> AsyncGenerator[T]:
    """The same once the first item is there: errors before it are raised here."""
    first = await anext(items)

    async def all_items() -> AsyncGenerator[T]:
        async with aclosing(items):
            yield first
            async for item in items:
                yield item

    return all_items()


def sse_response(events: AsyncIterable[bytes], **headers: str) -> StreamingResponse:
    """The response of the events, which no proxy should buffer."""
    unbuffered = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(events, media_type=EVENT_STREAM, headers={**unbuffered, **headers})
