"""Watching how far work is, in tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from workers import progress


@contextmanager
def shares_of() -> Iterator[list[float]]:
    """The shares that are told of the work in the block, one after the other."""
    told: list[float] = []
    with progress.watch(lambda _, share: told.append(share)), progress.step("work"):
        told.clear()
        yield told
