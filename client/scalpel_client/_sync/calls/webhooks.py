# Generated from `_async` by `make client`: do not change it here.
"""Calls under `webhooks`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from scalpel_client import models, params
from scalpel_client._shared.encoding import new_key, segment
from scalpel_client._sync.pager import Pager
from scalpel_client._sync.transport import Transport


class Webhooks:
    """Calls under `webhooks`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        limit: int | None = None,
        order: Literal["asc", "desc"] | None = None,
        after: str | None = None,
    ) -> Pager[models.WebhookSummary]:
        """List webhooks.

        Without their secrets.

        Args:
            limit: Most things on a page, 1 to 100.
            order: `desc`: the newest or last first; `asc`: the other way round.
            after: A position: `last_id` of the page before; it need not exist any more.
        """
        return Pager(
            self._transport,
            "/v1/webhooks",
            models.WebhookSummary,
            query={"limit": limit, "order": order, "after": after},
        )

    def create(
        self,
        *,
        url: str,
        description: str | None = None,
        events: Sequence[params.EventName] | None = None,
        idempotency_key: str | None = None,
    ) -> models.WebhookWithSecret:
        """Make a webhook.

        It receives the events of edits made from now on.

        Args:
            description: For people.
            events: Types of events to send; by default the final ones.
            url: `https://…`, at a public address.
            idempotency_key: By default one of its own, which repeats of the request keep.
        """
        return self._transport.request(
            "POST",
            "/v1/webhooks",
            models.WebhookWithSecret,
            json={"description": description, "events": events, "url": url},
            key=idempotency_key or new_key(),
        )

    def delete(self, webhook_id: str) -> models.DeletedWebhook:
        """Delete a webhook.

        Nothing more is sent to it.
        """
        return self._transport.request(
            "DELETE", f"/v1/webhooks/{segment(webhook_id)}", models.DeletedWebhook
        )

    def retrieve(self, webhook_id: str) -> models.Webhook:
        """Read a webhook and its history.

        Without its secret.
        """
        return self._transport.request("GET", f"/v1/webhooks/{segment(webhook_id)}", models.Webhook)

    def update(
        self,
        webhook_id: str,
        *,
        description: str | None = None,
        enabled: bool | None = None,
        events: Sequence[params.EventName] | None = None,
        url: str | None = None,
    ) -> models.Webhook:
        """Change a webhook.

        `"enabled": true` enables a disabled webhook; it receives events from then on.

        Args:
            description: For people.
            enabled: Whether anything is sent.
            events: Other types of events.
            url: Another address.
        """
        return self._transport.request(
            "PATCH",
            f"/v1/webhooks/{segment(webhook_id)}",
            models.Webhook,
            json={"description": description, "enabled": enabled, "events": events, "url": url},
        )

    def deliveries(
        self,
        webhook_id: str,
        *,
        status: Literal["delivered", "pending", "failed", "skipped"] | None = None,
        limit: int | None = None,
        order: Literal["asc", "desc"] | None = None,
        after: str | None = None,
    ) -> Pager[models.WebhookDelivery]:
        """List deliveries to a webhook.

        Deliveries of the last 30 days' edits that were tried, ordered by edit and event.

        Args:
            status: Only those of this status.
            limit: Most things on a page, 1 to 100.
            order: `desc`: the newest or last first; `asc`: the other way round.
            after: A position: `last_id` of the page before; it need not exist any more.
        """
        return Pager(
            self._transport,
            f"/v1/webhooks/{segment(webhook_id)}/deliveries",
            models.WebhookDelivery,
            query={"status": status, "limit": limit, "order": order, "after": after},
        )

    def retry_delivery(self, webhook_id: str, delivery_id: str) -> models.WebhookDelivery:
        """Retry a delivery.

        At once, whatever its status; a failure changes nothing.
        """
        return self._transport.request(
            "POST",
            f"/v1/webhooks/{segment(webhook_id)}/deliveries/{segment(delivery_id)}/retry",
            models.WebhookDelivery,
        )

    def rotate_secret(
        self, webhook_id: str, *, overlap_seconds: int | None = None
    ) -> models.WebhookWithSecret:
        """Rotate a webhook's secret.

        Messages are signed with both secrets while they overlap.

        Args:
            overlap_seconds: Seconds in which both secrets sign.
        """
        return self._transport.request(
            "POST",
            f"/v1/webhooks/{segment(webhook_id)}/rotate",
            models.WebhookWithSecret,
            json={"overlap_seconds": overlap_seconds},
        )

    def test(self, webhook_id: str) -> models.WebhookTest:
        """Send a test message.

        Sent once, at once, also to a disabled webhook; not listed among its deliveries.
        """
        return self._transport.request(
            "POST", f"/v1/webhooks/{segment(webhook_id)}/test", models.WebhookTest
        )
