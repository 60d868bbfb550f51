# Generated from openapi.json by `make client`: do not change it here.
"""Calls under `receipts`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from scalpel_client import models, params
from scalpel_client._async.transport import AsyncTransport
from scalpel_client._shared.encoding import new_key, segment


class AsyncReceipts:
    """Calls under `receipts`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def retrieve(self, edit_id: str) -> models.Receipt:
        """Read an edit's report.

        The receipt as JSON, as a page (`Accept: text/html`) or a model card (`text/markdown`).
        """
        return await self._transport.request(
            "GET", f"/v1/edits/{segment(edit_id)}/report", models.Receipt
        )

    async def create(
        self,
        *,
        variant: str,
        behavior: str | params.BehaviorParams | models.Behavior | None = None,
        effort: Literal["quick", "standard", "thorough"] | None = None,
        limits: params.LimitsParams | models.Limits | None = None,
        metadata: Mapping[str, str] | None = None,
        preserve: Sequence[params.Item] | None = None,
        seed: int | None = None,
        suffix: str | None = None,
        suites: Sequence[str] | None = None,
        idempotency_key: str | None = None,
    ) -> models.Edit:
        """Measure a variant.

        The receipt of a variant, measured as that of an edit is: effect, controls, damage and
        harm;
        of several edits also what each does alone and with the others. It is an edit itself,
        whose
        delta is all of the variant: `GET /v1/edits/{id}/report` has the receipt, and its own
        name
        serves what was measured.

        Args:
            behavior: What it is to change, as in `POST /v1/edits`; by default what its last
                edit was made for.
            effort: How much is measured.
            limits: Bounds on the damage that the receipt compares with.
            metadata: Your own strings, to filter by.
            preserve: Texts that must not change; also bounded by `max_kl`.
            seed: By default that of the last edit which was made for the behaviour, so that
                nothing it was fitted on is tested on; 0 if none was.
            suffix: A name for it among the edits of its base model: `base:suffix` serves it.
            suites: Standard suites to run on the base and on the variant, by name.
            variant: An edit at any strength, or several together.
            idempotency_key: By default one of its own, which repeats of the request keep.
        """
        return await self._transport.request(
            "POST",
            "/v1/receipts",
            models.Edit,
            json={
                "behavior": behavior,
                "effort": effort,
                "limits": limits,
                "metadata": metadata,
                "preserve": preserve,
                "seed": seed,
                "suffix": suffix,
                "suites": suites,
                "variant": variant,
            },
            key=idempotency_key or new_key(),
        )
