# Generated from `_async` by `make client`: do not change it here.
"""`client.webhooks`"""

from __future__ import annotations

from collections.abc import Mapping

from scalpel_client._shared.signatures import TOLERANCE_SECONDS, verified
from scalpel_client._sync.calls import webhooks as calls
from scalpel_client.models import Event


class Webhooks(calls.Webhooks):
    """Addresses that are told of events."""

    @staticmethod
    def unwrap(
        payload: bytes | str,
        headers: Mapping[str, str],
        secret: str,
        *,
        tolerance: float = TOLERANCE_SECONDS,
    ) -> Event:
        """The event of a delivery, once its signature is verified.

        Args:
            payload: the body as it arrived, not parsed and written again.
            secret: the webhook's, `whsec_…`.
            tolerance: how many seconds its time may be off.

        Raises:
            WebhookVerificationError: it is not signed with that secret, or not now.
        """
        return Event.model_validate(verified(payload, headers, secret, tolerance=tolerance))
