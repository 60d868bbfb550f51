"""`client.behaviors`, `client.imports` and `client.receipts`: what is sent and read as files."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from scalpel_client._async.calls import behaviors, imports, receipts
from scalpel_client._async.download import AsyncDownload
from scalpel_client._shared.encoding import decoded, new_key, segment
from scalpel_client._shared.uploads import CHUNK_BYTES, Progress, Upload, UploadProgress
from scalpel_client.models import BehaviorSummary, Edit


class AsyncBehaviors(behaviors.AsyncBehaviors):
    """What edits change: texts that show it and texts that do not."""

    async def upload(
        self,
        file: Path | str,
        *,
        name: str,
        on_progress: Progress | None = None,
        idempotency_key: str | None = None,
    ) -> BehaviorSummary:
        """Store a behaviour from a file of JSON lines, each a text and its `label`.

        Args:
            on_progress: is told the bytes that are sent, and of how many.
        """
        path = Path(file)
        headers = {
            "Content-Type": "application/jsonl",
            "Content-Length": str(path.stat().st_size),
        }
        response = await self._transport.send(
            "POST",
            "/v1/behaviors",
            lambda: {"content": _chunks(path, on_progress), "headers": headers},
            query={"name": name},
            key=idempotency_key or new_key(),
        )
        return decoded(BehaviorSummary, response)


class AsyncImports(imports.AsyncImports):
    """Edits that were made elsewhere."""

    async def upload(
        self,
        files: Sequence[Path | str],
        *,
        base_model: str,
        suffix: str | None = None,
        metadata: Mapping[str, str] | None = None,
        on_progress: Progress | None = None,
        idempotency_key: str | None = None,
    ) -> Edit:
        """Make an edit of files: a LoRA adapter of PEFT, a delta, or a control vector.

        Args:
            files: `adapter_config.json` and `adapter_model.safetensors`, or one file.
            suffix: a name for the edit among those of its base model.
            on_progress: is told the bytes that are sent, and of how many.
        """
        paths = [Path(file) for file in files]
        fields = {"base_model": base_model}
        if suffix is not None:
            fields["suffix"] = suffix
        if metadata is not None:
            fields["metadata"] = json.dumps(dict(metadata))
        with ExitStack() as opened:
            handles = [opened.enter_context(path.open("rb")) for path in paths]

            def form() -> dict[str, object]:
                told = UploadProgress(paths, on_progress)
                parts = [
                    ("file", (path.name, Upload(handle, told)))
                    for path, handle in zip(paths, handles, strict=True)
                ]
                return {"data": fields, "files": parts}

            response = await self._transport.send(
                "POST", "/v1/imports", form, key=idempotency_key or new_key()
            )
        return decoded(Edit, response)


class AsyncReceipts(receipts.AsyncReceipts):
    """What edits do, measured."""

    async def html(self, edit_id: str) -> str:
        """A receipt as a page of its own."""
        return await self._as(edit_id, "text/html").text()

    async def markdown(self, edit_id: str) -> str:
        """A receipt as a model card."""
        return await self._as(edit_id, "text/markdown").text()

    def _as(self, edit_id: str, accept: str) -> AsyncDownload:
        path = f"/v1/edits/{segment(edit_id)}/report"
        return AsyncDownload(self._transport, path, accept=accept)


async def _chunks(file: Path, on_progress: Progress | None) -> AsyncIterator[bytes]:
    told = UploadProgress([file], on_progress)
    with file.open("rb") as opened:
        while chunk := opened.read(CHUNK_BYTES):
            yield chunk
            told(len(chunk))
