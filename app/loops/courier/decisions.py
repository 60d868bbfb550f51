"""The courier's decisions, as functions without a store or network."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeVar

MOST_IN_FLIGHT = 64
"""Deliveries at a time."""
_MOST_PER_WEBHOOK = 4
"""To one webhook; only one while it fails, so that it does not delay others."""
_MOST_PER_TENANT = 16
T = TypeVar("T")


@dataclass(frozen=True)
class Channel:
    """One edit and one webhook; the edit's events are delivered to it in order."""

    tenant: str
    edit_id: str
    webhook_id: str


def choose(
    due: Sequence[Channel], under_way: Collection[Channel], failing: Collection[str]
) -> list[Channel]:
    """The deliveries to begin now: round robin over tenants and their webhooks.

    Args:
        due: in order within a webhook.
        failing: webhooks whose last try failed.
    """
    busy = Counter(channel.webhook_id for channel in under_way)
    tenants = Counter(channel.tenant for channel in under_way)
    by_tenant: dict[str, dict[str, list[Channel]]] = defaultdict(lambda: defaultdict(list))
    for channel in due:
        by_tenant[channel.tenant][channel.webhook_id].append(channel)
    chosen: list[Channel] = []
    for channel in interleaved([*interleaved(hooks.values())] for hooks in by_tenant.values()):
        if len(under_way) + len(chosen) >= MOST_IN_FLIGHT:
            break
        most = 1 if channel.webhook_id in failing else _MOST_PER_WEBHOOK
        if busy[channel.webhook_id] < most and tenants[channel.tenant] < _MOST_PER_TENANT:
            busy[channel.webhook_id] += 1
            tenants[channel.tenant] += 1
            chosen.append(channel)
    return chosen


def interleaved(lists: Iterable[Sequence[T]]) -> Iterator[T]:
    """The first of each, then the second of each, …"""
    nothing = object()
    for row in zip_longest(*lists, fillvalue=nothing):
        for item in row:
            if item is not nothing:
                yield item  # type: ignore[misc]
