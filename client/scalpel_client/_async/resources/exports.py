"""`client.exports`"""

from __future__ import annotations

from typing import Unpack

from scalpel_client._async.calls import exports as calls
from scalpel_client._async.waiting import succeeded
from scalpel_client._shared.defaults import Deadline
from scalpel_client.models import Export
from scalpel_client.params import ExportParams


class AsyncExports(calls.AsyncExports):
    """Files of variants for other programs."""

    async def create_and_wait(
        self,
        *,
        wait_timeout: float | None = None,
        idempotency_key: str | None = None,
        **request: Unpack[ExportParams],
    ) -> Export:
        """Make an export and wait until it has succeeded.

        Args:
            wait_timeout: seconds to wait, by default as long as it takes.
            request: as `create` takes it.

        Raises:
            WorkFailedError: the export has failed or was canceled.
            WaitTimeoutError: it has not ended in time, and goes on.
        """
        export = await self.create(**request, idempotency_key=idempotency_key)
        return await self.wait(export.id, timeout=wait_timeout)

    async def wait(self, export_id: str, *, timeout: float | None = None) -> Export:
        """Wait until an export has succeeded; raises as `create_and_wait` does."""
        return await succeeded(self, export_id, Deadline(timeout))
