# Generated from `_async` by `make client`: do not change it here.
"""Calls under `health`."""

from __future__ import annotations

from typing import Literal

from scalpel_client import models
from scalpel_client._sync.transport import Transport


class Health:
    """Calls under `health`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def live(self) -> models.Alive:
        """Liveness.

        200 as long as the process answers; it looks at nothing else.
        """
        return self._transport.request("GET", "/healthz", models.Alive)

    def ready(self, *, require: Literal["store", "all"] | None = None) -> models.Readiness:
        """Readiness.

        200 while the store can be reached; with `require=all`, only while an edit and a
        completion
        would be served. As it was a second ago at most.

        Args:
            require: `all`: 503 unless an edit and a completion would be served.
        """
        return self._transport.request(
            "GET", "/readyz", models.Readiness, query={"require": require}
        )

    def version(self) -> models.Version:
        """Version.

        That of the software that answers.
        """
        return self._transport.request("GET", "/version", models.Version)
