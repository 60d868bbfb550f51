"""What the courier makes of what it sees, without a store or a network in reach."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeVar

from app.domain.events.events import Event
from app.domain.webhooks.deliveries import Progress, Try, TryOutcome
from app.loops.courier.sending import Sent

_FACTOR = 4.0
_LONGEST_PAUSE_SECONDS = 6 * 3600.0
MOST_IN_FLIGHT = 64
"""Deliveries under way at once."""
_MOST_TO_ONE = 4
"""To one webhook; one only while it fails, so that it does not hold up others."""
_MOST_OF_TENANT = 16
T = TypeVar("T")


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
        by_hand: asked for by the tenant; its failure changes nothing.
    """
    progress = before.progress if before is not None else Progress()
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
    progress = (before.progress if before is not None else Progress()).after(event)
    sent = Sent(0.0, error="the webhook is disabled")
    return _record(before, event, "skipped", progress, now, sent, by_hand=False)


def _record(
    before: Try | None,
    event: Event,
    outcome: TryOutcome,
    progress: Progress,
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


@dataclass(frozen=True)
class Pair:
    """What is delivered in order: the events of one edit to one webhook."""

    tenant: str
    edit_id: str
    webhook_id: str


def choose(
    due: Sequence[Pair], under_way: Collection[Pair], failing: Collection[str]
) -> list[Pair]:
    """Those to begin with now: in turns over tenants and webhooks, the first ones first.

    Args:
        due: in order within a webhook.
        failing: webhooks whose last try failed.
    """
    busy = Counter(pair.webhook_id for pair in under_way)
    tenants = Counter(pair.tenant for pair in under_way)
    by_tenant: dict[str, dict[str, list[Pair]]] = defaultdict(lambda: defaultdict(list))
    for pair in due:
        by_tenant[pair.tenant][pair.webhook_id].append(pair)
    chosen: list[Pair] = []
    for pair in interleaved([*interleaved(hooks.values())] for hooks in by_tenant.values()):
        if len(under_way) + len(chosen) >= MOST_IN_FLIGHT:
            break
        most = 1 if pair.webhook_id in failing else _MOST_TO_ONE
        if busy[pair.webhook_id] < most and tenants[pair.tenant] < _MOST_OF_TENANT:
            busy[pair.webhook_id] += 1
            tenants[pair.tenant] += 1
            chosen.append(pair)
    return chosen


def interleaved(lists: Iterable[Sequence[T]]) -> Iterator[T]:
    """The first of each, then the second of each, …"""
    nothing = object()
    for row in zip_longest(*lists, fillvalue=nothing):
        for one in row:
            if one is not nothing:
                yield one  # type: ignore[misc]
