"""What a tenant has sent by hand: a test message, or an event again."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

from anyio.to_thread import run_sync

from app.domain.events.events import Event, durable_events
from app.domain.webhooks.deliveries import Deliveries, Delivery, message_id
from app.domain.webhooks.outgoing import Outgoing
from app.domain.webhooks.sending import Sent, body_of, send
from app.domain.webhooks.tries import tried
from app.domain.webhooks.webhooks import Webhooks, WebhookVersion
from models_store import ids
from models_store.errors import NotFound
from models_store.settings import Settings
from models_store.work.store import WorkStore


@dataclass(frozen=True)
class SendByHand:
    """Sends at once, to a disabled webhook too.

    Raises (all methods):
        NotFound: no such webhook, delivery or event.
    """

    webhooks: Webhooks
    deliveries: Deliveries
    work: WorkStore
    outgoing: Outgoing
    settings: Settings

    async def test(self, tenant: str, webhook_id: str) -> tuple[str, Sent]:
        """Send a test message, once: its id, and what came of it."""
        webhook = await run_sync(self.webhooks.get, tenant, webhook_id)
        id = f"msg_{webhook_id.rpartition('_')[2]}_{ids.new_id('webhook').rpartition('_')[2]}"
        body = body_of("webhook.test", time.time(), {"webhook_id": webhook_id})
        return id, await send(self.outgoing, webhook, id, body)

    async def again(self, tenant: str, webhook_id: str, delivery_id: str) -> Delivery:
        """Deliver an event again, whatever became of it before; a failure changes nothing."""
        webhook, event, edit_id = await run_sync(self._find, tenant, webhook_id, delivery_id)
        body = body_of(event.type, event.created_at, event.model_dump(mode="json"))
        sent = await send(self.outgoing, webhook, delivery_id, body)
        return await run_sync(partial(self._record, tenant, webhook_id, edit_id, event, sent))

    def _find(
        self, tenant: str, webhook_id: str, delivery_id: str
    ) -> tuple[WebhookVersion, Event, str]:
        webhook = self.webhooks.get(tenant, webhook_id)
        delivery = self.deliveries.get(tenant, webhook_id, delivery_id)
        for event in durable_events(self.work.read("edit", tenant, delivery.edit_id)):
            if event.id == delivery.event_id:
                return webhook, event, delivery.edit_id
        raise NotFound(f"no such event any more: {delivery_id}")

    def _record(
        self, tenant: str, webhook_id: str, edit_id: str, event: Event, sent: Sent
    ) -> Delivery:
        """Write the try down; the courier may be writing too."""
        written = False
        while not written:
            entry = tried(
                self.deliveries.last(tenant, webhook_id, edit_id),
                event,
                sent,
                time.time(),
                most_tries=self.settings.webhook_tries,
                first_pause=self.settings.webhook_retry_seconds,
                by_hand=True,
            )
            written = self.deliveries.append(tenant, webhook_id, edit_id, entry)
        assert event.id is not None
        id = message_id(webhook_id, edit_id, event.id)
        return self.deliveries.get(tenant, webhook_id, id)
