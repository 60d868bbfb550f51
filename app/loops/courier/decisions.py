"""Which deliveries the courier begins with, decided without a store or a network in reach."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeVar

MOST_IN_FLIGHT = 64
"""Deliveries under way at once."""
_MOST_TO_ONE = 4
"""To one webhook; one only while it fails, so that it does not hold up others."""
_MOST_OF_TENANT = 16
T = TypeVar("T")


@dataclass(frozen=True)
class EditToWebhook:
    """What is delivered in order: the events of one edit to one webhook."""

    tenant: str
    edit_id: str
    webhook_id: str


def choose(
    due: Sequence[EditToWebhook], under_way: Collection[EditToWebhook], failing: Collection[str]
) -> list[EditToWebhook]:
    """Those to begin with now: in turns over tenants and webhooks, the first ones first.

    Args:
        due: in order within a webhook.
        failing: webhooks whose last try failed.
    """
    busy = Counter(pair.webhook_id for pair in under_way)
    tenants = Counter(pair.tenant for pair in under_way)
    by_tenant: dict[str, dict[str, list[EditToWebhook]]] = defaultdict(lambda: defaultdict(list))
    for pair in due:
        by_tenant[pair.tenant][pair.webhook_id].append(pair)
    chosen: list[EditToWebhook] = []
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
        for item in row:
            if item is not nothing:
                yield item  # type: ignore[misc]
