# Generated from `_async` by `make client`: do not change it here.
"""Events of an edit as they happen, across connections that break."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator

import httpx

from scalpel_client._shared.defaults import Deadline, reading_within
from scalpel_client._shared.retries import delay, may_repeat
from scalpel_client._shared.sse import Decoder, ServerEvent
from scalpel_client._sync.transport import Transport
from scalpel_client.errors import APIError, APIResponseValidationError, APITimeoutError
from scalpel_client.models import Event

EVENT_STREAM = "text/event-stream"
_STEADY_SECONDS = 5.0
"""A connection that lasted longer is no sign of a server that is away."""
_LEAST_SILENCE_SECONDS = 0.25
_FINAL = ("edit.succeeded", "edit.failed", "edit.canceled")


def follow(
    transport: Transport,
    path: str,
    after: int | None = None,
    deadline: Deadline | None = None,
) -> Generator[Event]:
    """The events behind number `after`, or all, up to the final one; none twice.

    Args:
        deadline: when to end without a final one. A connection may be silent for half of what is
            left when it is made, and is made anew after that: silence does not last beyond it.

    Raises:
        APIError: the API refuses, or cannot be reached any more.
    """
    deadline = deadline or Deadline(None)
    last, repeats, decoder = after, 0, Decoder()
    while deadline.left:
        headers = {"Accept": EVENT_STREAM, **({"Last-Event-ID": str(last)} if last else {})}
        opened, pause = time.monotonic(), 0.0
        half = deadline.left / 2
        silence = half + _LEAST_SILENCE_SECONDS
        timeout = reading_within(transport.timeout, silence)
        try:
            with transport.stream("GET", path, headers=headers, timeout=timeout) as response:
                if response.status_code == 204:
                    return
                decoder.restart()
                for line in _lines(response):
                    received = decoder.feed(line)
                    if received is not None:
                        event = Event.model_validate(received.data)
                        repeats = 0
                        last = last if event.id is None else event.id
                        yield event
                        if event.type in _FINAL:
                            return
                    if deadline.left < half:
                        break
                else:
                    repeats, pause = 0, delay(0)
        except APIError as error:
            if isinstance(error, APITimeoutError) and timeout.read == silence:
                continue
            if time.monotonic() > opened + _STEADY_SECONDS:
                repeats = 0
            if repeats >= transport.max_retries or not may_repeat(error, "GET"):
                raise
            pause = delay(repeats, error)
            repeats += 1
        if pause:
            pause = max(decoder.retry_seconds or 0.0, pause)
            time.sleep(min(pause, deadline.left))


def server_events(response: httpx.Response) -> Iterator[ServerEvent]:
    """The events of one response."""
    decoder = Decoder()
    for line in _lines(response):
        event = decoder.feed(line)
        if event is not None:
            yield event


def _lines(response: httpx.Response) -> Iterator[str]:
    if not response.headers.get("content-type", "").startswith(EVENT_STREAM):
        raise APIResponseValidationError(response, "events were asked for")
    yield from response.iter_lines()
