"""Webhooks: one loop in each API process delivers the events of edits, led by a lease."""

from app.loops.courier.courier import Courier
from app.loops.courier.sending import Sent, body_of, send

__all__ = ["Courier", "Sent", "body_of", "send"]
