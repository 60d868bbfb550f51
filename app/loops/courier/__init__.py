"""Webhooks: a loop in each API process, one of which leads, delivers the events of edits."""

from app.loops.courier.courier import Courier
from app.loops.courier.sending import Sent, body_of, send

__all__ = ["Courier", "Sent", "body_of", "send"]
