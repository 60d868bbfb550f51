"""Calls that wait for a network, many at a time, with a bound on the threads of all of them."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from threading import Lock
from typing import TypeVar

K = TypeVar("K")
T = TypeVar("T")


class Threads:
    """So many threads, shared by all who call in parallel; safe to use from several threads."""

    def __init__(self, most: int) -> None:
        self.left = most
        self._lock = Lock()

    def map(self, call: Callable[[K], T], items: Iterable[K], wanted: int) -> Iterator[T]:
        """`call` of each item in order, of `wanted` items at a time if so many threads are left; in
        the caller's own where none is."""
        with self._held(wanted) as count:
            yield from _ahead(call, items, count) if count else map(call, items)

    @contextlib.contextmanager
    def _held(self, wanted: int) -> Iterator[int]:
        with self._lock:
            count = min(wanted, self.left)
            self.left -= count
        try:
            yield count
        finally:
            with self._lock:
                self.left += count


def _ahead(call: Callable[[K], T], items: Iterable[K], count: int) -> Iterator[T]:
    """`call` of each item in order, of `count` items at a time."""
    coming = iter(items)
    with ThreadPoolExecutor(count) as pool:
        under_way = deque(pool.submit(call, item) for item in islice(coming, count))
        try:
            while under_way:
                value = under_way.popleft().result()
                under_way.extend(pool.submit(call, item) for item in islice(coming, 1))
                yield value
        finally:
            for later in under_way:
                later.cancel()
