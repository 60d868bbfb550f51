"""One try to deliver one message, by the Standard Webhooks specification."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import JsonValue
from standardwebhooks import Webhook

from app.domain.webhooks.outgoing import Outgoing, OutgoingFailed
from app.domain.webhooks.webhooks import WebhookVersion
from models_store.net.addresses import AddressRefused

_GONE = 410


@dataclass(frozen=True)
class Sent:
    """The outcome of a try."""

    seconds: float
    status_code: int | None = None
    error: str | None = None

    @property
    def delivered(self) -> bool:
        return self.error is None

    @property
    def gone(self) -> bool:
        """The receiver wants no more messages."""
        return self.status_code == _GONE


def body_of(type: str, at: float, data: JsonValue) -> bytes:
    """The body of a message; equal events give equal bytes."""
    timestamp = datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    message = {"type": type, "timestamp": timestamp, "data": data}
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()


def signed_headers(
    webhook: WebhookVersion, message_id: str, body: bytes, now: float
) -> dict[str, str]:
    """Headers with a signature by each valid secret."""
    at = datetime.fromtimestamp(int(now), UTC)
    signatures = [
        Webhook(secret).sign(message_id, at, body.decode()) for secret in webhook.signing(now)
    ]
    return {
        "Content-Type": "application/json",
        "User-Agent": "Scalpel-Webhooks",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": " ".join(signatures),
    }


async def send(outgoing: Outgoing, webhook: WebhookVersion, message_id: str, body: bytes) -> Sent:
    """Try once; a status of 2xx is success. The response's body is not read."""
    began = time.monotonic()
    headers = signed_headers(webhook, message_id, body, time.time())
    try:
        response = await outgoing.request(
            "POST", webhook.url, content=body, headers=headers, read=False
        )
    except (AddressRefused, OutgoingFailed) as error:
        return Sent(time.monotonic() - began, error=str(error)[:300])
    seconds = time.monotonic() - began
    if 200 <= response.status < 300:
        return Sent(seconds, response.status)
    why = ", and redirects are not followed" if 300 <= response.status < 400 else ""
    return Sent(seconds, response.status, f"the receiver answered {response.status}{why}")
