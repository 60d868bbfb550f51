# Generated from openapi.json by `make client`: do not change it here.
"""Calls under `models`."""

from __future__ import annotations

from scalpel_client import models
from scalpel_client._async.transport import AsyncTransport
from scalpel_client._shared.encoding import segment


class AsyncModels:
    """Calls under `models`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def list(self) -> models.ModelList:
        """List models.

        Base models, aliases, and of your newest 1,000 edits those that succeeded.
        """
        return await self._transport.request("GET", "/v1/models", models.ModelList)

    async def retrieve(self, model: str) -> models.ServedModel:
        """Read a model.

        Any name that a completion takes.
        """
        return await self._transport.request(
            "GET", f"/v1/models/{segment(model)}", models.ServedModel
        )
