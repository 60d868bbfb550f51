# Generated from openapi.json by `make client`: do not change it here.
"""Calls under `health`."""

from __future__ import annotations

from typing import Literal

from scalpel_client import models
from scalpel_client._async.transport import AsyncTransport


class AsyncHealth:
    """Calls under `health`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def live(self) -> models.Alive:
        """Liveness.

        200 as long as the process answers; it looks at nothing else.
        """
        return await self._transport.request("GET", "/healthz", models.Alive)

    async def ready(self, *, require: Literal["store", "all"] | None = None) -> models.Readiness:
        """Readiness.

        200 while the store can be reached; with `require=all`, only while an edit and a
        completion
        would be served. As it was a second ago at most.

        Args:
            require: `all`: 503 unless an edit and a completion would be served.
        """
        return await self._transport.request(
            "GET", "/readyz", models.Readiness, query={"require": require}
        )

    async def version(self) -> models.Version:
        """Version.

        That of the software that answers.
        """
        return await self._transport.request("GET", "/version", models.Version)
