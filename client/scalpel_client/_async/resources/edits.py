"""`client.edits`"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Unpack

from scalpel_client._async.calls import edits as calls
from scalpel_client._async.events import follow
from scalpel_client._async.waiting import succeeded
from scalpel_client._shared.defaults import Deadline
from scalpel_client._shared.encoding import segment
from scalpel_client.models import Edit, Event
from scalpel_client.params import EditParams


class AsyncEdits(calls.AsyncEdits):
    """Edits: made, followed, measured against each other and downloaded."""

    async def create_and_wait(
        self,
        *,
        on_progress: Callable[[Event], None] | None = None,
        wait_timeout: float | None = None,
        idempotency_key: str | None = None,
        **request: Unpack[EditParams],
    ) -> Edit:
        """Queue an edit and wait until it has succeeded.

        Args:
            on_progress: is called with each event: stages, and the share of one that is done.
            wait_timeout: seconds to wait, by default as long as it takes.
            request: as `create` takes it.

        Raises:
            WorkFailedError: the edit has failed or was canceled.
            WaitTimeoutError: it has not ended in time, and goes on.
        """
        edit = await self.create(**request, idempotency_key=idempotency_key)
        return await self.wait(edit.id, on_progress=on_progress, timeout=wait_timeout)

    async def wait(
        self,
        edit_id: str,
        *,
        on_progress: Callable[[Event], None] | None = None,
        timeout: float | None = None,
    ) -> Edit:
        """Wait until an edit, an import or a measurement has succeeded; raises as `create_and_wait`
        does."""
        deadline = Deadline(timeout)
        if on_progress is not None:
            path = self._events_path(edit_id)
            async with aclosing(follow(self._transport, path, deadline=deadline)) as events:
                async for event in events:
                    on_progress(event)
        return await succeeded(self, edit_id, deadline)

    def events(self, edit_id: str, *, after: int | None = None) -> AsyncGenerator[Event]:
        """What happens to an edit, as it happens, up to its end.

        A connection that breaks is made again, and the stream goes on behind the last event.

        Args:
            after: the number of an event that was seen already.
        """
        return follow(self._transport, self._events_path(edit_id), after)

    @staticmethod
    def _events_path(edit_id: str) -> str:
        return f"/v1/edits/{segment(edit_id)}/events"
