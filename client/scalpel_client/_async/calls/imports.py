# Generated from openapi.json by `make client`: do not change it here.
"""Calls under `imports`."""

from __future__ import annotations

from collections.abc import Mapping

from scalpel_client import models, params
from scalpel_client._async.transport import AsyncTransport
from scalpel_client._shared.encoding import new_key


class AsyncImports:
    """Calls under `imports`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self,
        *,
        base_model: str,
        metadata: Mapping[str, str] | None = None,
        source: params.HubSourceParams
        | models.HubSource
        | params.ModelSourceParams
        | models.ModelSource
        | None = None,
        suffix: str | None = None,
        idempotency_key: str | None = None,
    ) -> models.Edit:
        """Import an edit that was made elsewhere.

        A LoRA adapter of PEFT, another Scalpel's delta, or a control vector: as a form with
        files,
        or as JSON that names a public repository on the hub. Or the difference of another
        registered
        model of the same shape: as JSON that names it. It becomes an edit like any other, but
        without a
        receipt.

        Args:
            base_model: The id of the base model that it was made for.
            metadata: Your own strings, to filter by.
            source: A repository on the Hugging Face hub, or another registered model; files are
                sent as a form in its place.
            suffix: A name for the edit among those of its base model: `base:suffix` serves it.
            idempotency_key: By default one of its own, which repeats of the request keep.
        """
        return await self._transport.request(
            "POST",
            "/v1/imports",
            models.Edit,
            json={
                "base_model": base_model,
                "metadata": metadata,
                "source": source,
                "suffix": suffix,
            },
            key=idempotency_key or new_key(),
        )
