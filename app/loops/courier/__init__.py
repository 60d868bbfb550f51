"""Webhooks: one loop in each API process delivers the events of edits, led by a lease."""

from app.loops.courier.courier import Courier

__all__ = ["Courier"]
