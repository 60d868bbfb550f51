# Generated from `_async` by `make client`: do not change it here.
"""Calls under `canaries`."""

from __future__ import annotations

from scalpel_client import models
from scalpel_client._shared.encoding import segment
from scalpel_client._sync.download import Download
from scalpel_client._sync.transport import Transport


class Canaries:
    """Calls under `canaries`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def download(self, export_id: str) -> Download:
        """Download the canary of an export.

        Prompts, and the answers of base model and export at several strengths: those at which
        the
        policy lets the key use the variant.
        """
        return Download(self._transport, f"/v1/exports/{segment(export_id)}/canary")

    def check(
        self,
        export_id: str,
        *,
        model: str,
        url: str,
        api_key: str | None = None,
        base_model: str | None = None,
    ) -> models.CanaryCheck:
        """Check what a server serves.

        Ask a server with OpenAI's API the prompts of the canary, and say by its answers whether
        it
        serves the export, the base model, the export at another strength, or something else.

        Args:
            api_key: For that server, sent as a bearer token; it is not kept.
            base_model: What it calls the base model, where it serves both: then the difference
                of the two counts, whatever the weights are rounded to.
            model: What it calls the model or adapter.
            url: Where its API is, with or without `/v1`: an address that requests may go to, as
                webhooks.
        """
        return self._transport.request(
            "POST",
            f"/v1/exports/{segment(export_id)}/canary",
            models.CanaryCheck,
            json={"api_key": api_key, "base_model": base_model, "model": model, "url": url},
        )
