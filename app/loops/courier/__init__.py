"""Webhooks: a loop in each API process, one of which leads, delivers the events of edits."""

from app.loops.courier.courier import Courier

__all__ = ["Courier"]
