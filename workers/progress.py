"""Progress of work: steps within steps, each with its share of the one around it.

The step that is going on is ambient, as the current span of a trace is. What does the work opens
steps and advances; what only calls it passes nothing on. Where nobody watches, steps do no more
than take the time.

    with progress.watch(draw), progress.step("evaluate"):
        progress.plan({"text": 3.0, "damage": 1.0})
        with progress.step("text"):
            for batch in progress.track(batches):
                ...
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TypeVar

T = TypeVar("T")

Watcher = Callable[[str, float], None]
"""Gets the name of the outermost step and the share of it that is done: in [0, 1], from 0, and
never less than before. What it raises stops the work."""


class Step:
    """A part of the work, and the steps that it has."""

    def __init__(self, tell: Callable[[float], None], began: float | None = None) -> None:
        """Args:
        tell: gets the share that is done.
        began: by `time.monotonic()`; None: now.
        """
        self.seconds: dict[str, float] = {}
        """By step of it that has ended, each since the end of the one before."""
        self.began = time.monotonic() if began is None else began
        self._tell = tell
        self._share = 0.0
        self._weights: Mapping[str, float] = {}
        self._total = 1.0
        self._done = 0.0
        self._last_end = self.began

    @property
    def total_seconds(self) -> float:
        return time.monotonic() - self.began

    def plan(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        self._total = sum(weights.values()) or 1.0

    def advance(self, share: float) -> None:
        self._share = max(self._share, min(1.0, share))
        self._tell(self._share)

    def part(self, low: float, high: float, share: float) -> None:
        """So much of what lies between two shares is done."""
        self.advance(low + (high - low) * share)

    def begin(self, name: str, weight: float | None) -> tuple[Step, Callable[[], None]]:
        """A step of this one, and what is to be called at its end."""
        start = self._done
        if weight is None:
            rest = max(0.0, self._total - start)
            weight = self._weights.get(name, 0.0) if self._weights else rest
        low, high = start / self._total, (start + weight) / self._total

        def end() -> None:
            now = time.monotonic()
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last_end
            self._last_end = now
            self._done = start + weight
            self.advance(high)

        return Step(partial(self.part, low, high)), end


class _Watched(Step):
    """All the work that somebody watches: its steps are told one by one; one that is taken up
    again goes on from where it was."""

    def __init__(self, watcher: Watcher, began: float | None) -> None:
        super().__init__(_nobody, began)
        self._watcher = watcher
        self._shares: dict[str, float] = {}

    def begin(self, name: str, weight: float | None) -> tuple[Step, Callable[[], None]]:
        low = self._shares.setdefault(name, 0.0)
        if name not in self.seconds:
            self._watcher(name, 0.0)
        _, end = super().begin(name, weight)

        def tell(share: float) -> None:
            self._shares[name] = low + (1 - low) * share
            self._watcher(name, self._shares[name])

        return Step(tell), end


def _nobody(share: float) -> None:
    """Where nobody watches."""


_current: ContextVar[Step | None] = ContextVar("step", default=None)


@contextmanager
def watch(watcher: Watcher, *, began: float | None = None) -> Iterator[Step]:
    """Tell `watcher` of all steps that are made in the block.

    Args:
        began: when the work began, by `time.monotonic()`; None: now. Its first step counts from
            there.
    """
    with _entered(_Watched(watcher, began)) as work:
        yield work


@contextmanager
def step(name: str, weight: float | None = None) -> Iterator[Step]:
    """Do a part of what is being done.

    Args:
        weight: in the unit of the plan, or a share of the step around it where that has no plan;
            by default what the plan says, or all that is left.
    """
    around = _current.get() or Step(_nobody)
    inner, end = around.begin(name, weight)
    with _entered(inner):
        yield inner
    end()


def plan(weights: Mapping[str, float]) -> None:
    """Say what steps the current one will have, with their expected costs in any unit."""
    if (current := _current.get()) is not None:
        current.plan(weights)


def advance(done: float, total: float) -> None:
    """So much of the current step is done."""
    if (current := _current.get()) is not None:
        current.advance(done / total)


def track(items: Sequence[T], *, of: int | None = None) -> Iterator[T]:
    """Go through items, each of which is an equal part of the current step.

    Args:
        of: how many there may be, where not all need be gone through; by default all there are.
    """
    around, total = _current.get() or Step(_nobody), of or len(items)
    for number, item in enumerate(items):
        low, high = number / total, (number + 1) / total
        with _entered(Step(partial(around.part, low, high))):
            yield item
        around.advance(high)


@contextmanager
def _entered(inner: Step) -> Iterator[Step]:
    around = _current.get()
    _current.set(inner)
    try:
        yield inner
    finally:
        _current.set(around)
