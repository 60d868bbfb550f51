"""Progress and time of work that has several parts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from workers.runtime.progress import Progress, span

__all__ = ["Parts", "Progress", "span"]


class Parts:
    """Turns the progress of each part into that of the whole, and keeps the seconds of each."""

    def __init__(self, weights: Mapping[str, float], progress: Progress) -> None:
        """Args:
        weights: expected cost of each part, in any unit.
        """
        self._weights = dict(weights)
        self._total = sum(self._weights.values())
        self._done = 0.0
        self._progress = progress
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[Progress]:
        """Do one part; the block gets a callback for its own progress."""
        weight = self._weights[name]
        started = time.monotonic()
        yield lambda share: self._progress((self._done + weight * share) / self._total)
        self._done += weight
        self.seconds[name] = time.monotonic() - started
        self._progress(min(1.0, self._done / self._total))
