# Generated from openapi.json by `make client`: do not change it here.
"""Calls under `exports`."""

from __future__ import annotations

from typing import Literal

from scalpel_client import models
from scalpel_client._async.download import AsyncDownload
from scalpel_client._async.pager import AsyncPager
from scalpel_client._async.transport import AsyncTransport
from scalpel_client._shared.encoding import new_key, segment


class AsyncExports:
    """Calls under `exports`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        status: Literal["queued", "running", "succeeded", "failed", "canceled"] | None = None,
        base_model: str | None = None,
        variant: str | None = None,
        limit: int | None = None,
        order: Literal["asc", "desc"] | None = None,
        after: str | None = None,
    ) -> AsyncPager[models.Export]:
        """List exports.

        A page is chosen from at most 1,000 exports, as for edits.

        Args:
            status: Only those of this status.
            base_model: Only those of this base model.
            variant: Only exports of this variant, named as in them: with ids in place of
                suffixes.
            limit: Most things on a page, 1 to 100.
            order: `desc`: the newest or last first; `asc`: the other way round.
            after: An id.
        """
        return AsyncPager(
            self._transport,
            "/v1/exports",
            models.Export,
            query={
                "status": status,
                "base_model": base_model,
                "variant": variant,
                "limit": limit,
                "order": order,
                "after": after,
            },
        )

    async def create(
        self,
        *,
        format: Literal["gguf", "merged", "merged-gguf", "native", "peft"],
        variant: str,
        dtype: Literal["f32", "f16", "q8_0"] | None = None,
        without_parents: bool | None = None,
        idempotency_key: str | None = None,
    ) -> models.Export:
        """Export a variant.

        It is made by an editor and compared with the variant before its files can be had.

        Args:
            dtype: Of a `merged-gguf` export's matrices: `f16` (the default), `q8_0` or `f32`.
                No other format has a choice.
            format: What the files are for.
            variant: What is exported: edits at their strengths.
            without_parents: Leave out parent edits that the variant does not name.
            idempotency_key: By default one of its own, which repeats of the request keep.
        """
        return await self._transport.request(
            "POST",
            "/v1/exports",
            models.Export,
            json={
                "dtype": dtype,
                "format": format,
                "variant": variant,
                "without_parents": without_parents,
            },
            key=idempotency_key or new_key(),
        )

    async def delete(self, export_id: str) -> models.DeletedExport:
        """Delete an export and its files.

        One that has not ended is canceled.
        """
        return await self._transport.request(
            "DELETE", f"/v1/exports/{segment(export_id)}", models.DeletedExport
        )

    async def retrieve(self, export_id: str, *, wait: float | None = None) -> models.Export:
        """Read an export.

        With its files once it has succeeded.

        Args:
            wait: Wait until it has finished, for at most so many seconds.
        """
        return await self._transport.request(
            "GET", f"/v1/exports/{segment(export_id)}", models.Export, query={"wait": wait}
        )

    def archive(self, export_id: str) -> AsyncDownload:
        """Download an export as one zip file.

        All files, put together while they are sent.
        """
        return AsyncDownload(self._transport, f"/v1/exports/{segment(export_id)}/archive")

    async def cancel(self, export_id: str) -> models.Export:
        """Cancel an export.

        Again has no further effect; 409 if it has succeeded or failed.
        """
        return await self._transport.request(
            "POST", f"/v1/exports/{segment(export_id)}/cancel", models.Export
        )

    def file(self, export_id: str, name: str) -> AsyncDownload:
        """Download a file of an export.

        In whole or in a range.
        """
        return AsyncDownload(
            self._transport, f"/v1/exports/{segment(export_id)}/files/{segment(name)}"
        )
