"""Waiting for work to end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from scalpel_client._shared.defaults import Deadline
from scalpel_client.errors import WaitTimeoutError, WorkFailedError

_ONE_WAIT_SECONDS = 30.0
_FINAL = ("succeeded", "failed", "canceled")


class Work(Protocol):
    """An edit, an export or the registration of a base model."""

    id: str
    status: str


W = TypeVar("W", bound=Work)


async def succeeded(read: Callable[[float], Awaitable[W]], deadline: Deadline) -> W:
    """The work once it has succeeded.

    Args:
        read: reads it, waiting for its end for so many seconds.

    Raises:
        WaitTimeoutError: it has not ended in time.
        WorkFailedError: it has failed, or was canceled.
    """
    while True:
        left = deadline.left
        work = await read(min(_ONE_WAIT_SECONDS, left))
        if work.status == "succeeded":
            return work
        if work.status in _FINAL:
            raise WorkFailedError(work)
        if left == 0:
            raise WaitTimeoutError(f"{work.id} is still {work.status} after {deadline.seconds:g} s")
