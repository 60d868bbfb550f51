# Generated from `_async` by `make client`: do not change it here.
"""Calls under `models`."""

from __future__ import annotations

from scalpel_client import models
from scalpel_client._shared.encoding import segment
from scalpel_client._sync.transport import Transport


class Models:
    """Calls under `models`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> models.ModelList:
        """List models.

        Base models, aliases, and of your newest 1,000 edits those that succeeded.
        """
        return self._transport.request("GET", "/v1/models", models.ModelList)

    def retrieve(self, model: str) -> models.ServedModel:
        """Read a model.

        Any name that a completion takes.
        """
        return self._transport.request("GET", f"/v1/models/{segment(model)}", models.ServedModel)
