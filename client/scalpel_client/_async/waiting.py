"""Waiting for work to end."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol, TypeVar

from scalpel_client._async.transport import AsyncTransport
from scalpel_client._shared.defaults import Deadline
from scalpel_client.errors import WaitTimeoutError, WorkFailedError

_ONE_WAIT_SECONDS = 30.0
_FINAL = ("succeeded", "failed", "canceled")


class Work(Protocol):
    """An edit, an export or the registration of a base model."""

    id: str
    status: str


W = TypeVar("W", bound=Work, covariant=True)


class Resource(Protocol[W]):
    """Calls under `edits`, `exports` or `base_models`."""

    _transport: AsyncTransport

    def retrieve(self, id: str, /, *, wait: float | None = None) -> Awaitable[W]: ...


async def succeeded(resource: Resource[W], id: str, deadline: Deadline) -> W:
    """The work once it has succeeded.

    The server is asked to wait for less than the client waits for its response.

    Raises:
        WaitTimeoutError: it has not ended in time.
        WorkFailedError: it has failed, or was canceled.
    """
    longest = min(_ONE_WAIT_SECONDS, (resource._transport.timeout.read or float("inf")) / 2)
    while True:
        left = deadline.left
        work = await resource.retrieve(id, wait=min(longest, left))
        if work.status == "succeeded":
            return work
        if work.status in _FINAL:
            raise WorkFailedError(work)
        if left == 0:
            raise WaitTimeoutError(f"{work.id} is still {work.status} after {deadline.seconds:g} s")
