"""Signatures of webhooks, as Standard Webhooks has them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

from scalpel_client.errors import WebhookVerificationError

TOLERANCE_SECONDS = 300
_PREFIX = "whsec_"


def verified(
    payload: bytes | str,
    headers: Mapping[str, str],
    secret: str,
    *,
    tolerance: float = TOLERANCE_SECONDS,
) -> dict[str, Any]:
    """The JSON of a delivery that was signed with `secret`.

    Args:
        payload: the body as it arrived, not parsed and written again.
        tolerance: how many seconds its time may be off.

    Raises:
        WebhookVerificationError: a header is missing, the time is off, or no signature fits.
    """
    found = {name.lower(): value for name, value in headers.items()}
    try:
        id, sent_at = found["webhook-id"], found["webhook-timestamp"]
        signatures = found["webhook-signature"].split()
    except KeyError as error:
        raise WebhookVerificationError(f"the header {error} is missing") from None
    if not sent_at.isdecimal() or abs(time.time() - int(sent_at)) > tolerance:
        raise WebhookVerificationError(f"webhook-timestamp {sent_at!r} is not of now")
    body = payload.encode() if isinstance(payload, str) else payload
    signed = f"{id}.{sent_at}.".encode() + body
    expected = base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256))
    ours = (one.partition(",") for one in signatures)
    if not any(
        version == "v1" and hmac.compare_digest(signature.encode(), expected)
        for version, _, signature in ours
    ):
        raise WebhookVerificationError("no signature fits the secret")
    event: dict[str, Any] = json.loads(body)
    return event


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        raise WebhookVerificationError("the secret is none of Scalpel's: whsec_…") from None
