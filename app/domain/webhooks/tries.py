"""The record of one try at a delivery, and when the next is due."""

from __future__ import annotations

import random

from app.domain.events.events import Event
from app.domain.webhooks.deliveries import DeliveryProgress, Try, TryOutcome
from app.domain.webhooks.sending import Sent

_FACTOR = 4.0
_LONGEST_PAUSE_SECONDS = 6 * 3600.0


def pause(tries: int, first: float) -> float:
    """Seconds from one failed try to the next: exponential, with full jitter.

    Args:
        tries: that were made, from 1.
        first: the longest pause after the first one.
    """
    return random.uniform(0.0, min(first * _FACTOR ** (tries - 1), _LONGEST_PAUSE_SECONDS))  # noqa: S311


def tried(
    before: Try | None,
    event: Event,
    sent: Sent,
    now: float,
    *,
    most_tries: int,
    first_pause: float,
    by_hand: bool = False,
) -> Try:
    """The record of a try: what came of it, and when the next is due.

    Args:
        before: the last record of this edit's history.
        by_hand: requested by the tenant; its failure changes nothing.
    """
    progress = before.progress if before is not None else DeliveryProgress()
    tries = progress.tries + 1
    outcome: TryOutcome
    if by_hand and not (sent.delivered and progress.is_open(event)):
        failed: TryOutcome = "failed" if progress.is_open(event) else "given_up"
        outcome, after = "delivered" if sent.delivered else failed, progress
    elif sent.delivered:
        outcome, after = "delivered", progress.after(event)
    elif tries >= most_tries:
        outcome, after = "given_up", progress.after(event)
    else:
        outcome = "failed"
        after = progress.model_copy(
            update={
                "tries": tries,
                "first_tried_at": progress.first_tried_at or now,
                "next_try_at": now + pause(tries, first_pause),
            }
        )
    return _record(before, event, outcome, after, now, sent, by_hand)


def skipped(before: Try | None, event: Event, now: float) -> Try:
    """The record of an event that came while its webhook was disabled."""
    progress = (before.progress if before is not None else DeliveryProgress()).after(event)
    sent = Sent(0.0, error="the webhook is disabled")
    return _record(before, event, "skipped", progress, now, sent, by_hand=False)


def _record(
    before: Try | None,
    event: Event,
    outcome: TryOutcome,
    progress: DeliveryProgress,
    now: float,
    sent: Sent,
    by_hand: bool,
) -> Try:
    assert event.id is not None
    return Try(
        number=before.number + 1 if before is not None else 1,
        event_id=event.id,
        event_type=event.type,
        outcome=outcome,
        at=now,
        seconds=round(sent.seconds, 3),
        status_code=sent.status_code,
        error=sent.error,
        by_hand=by_hand,
        progress=progress,
    )
