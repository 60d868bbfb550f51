"""Find the scale at which an edit costs what it may cost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from models_store.errors import EditFailed, InvalidRequest

_MAX_STEP = math.log(8)
"""A guess may be wrong by orders of magnitude, where the law of small scales does not hold."""
_MEASURABLE_KL = 1e-5
"""Below this rounding dominates, and a slope through such a point means nothing."""


@dataclass(frozen=True)
class Calibration:
    """A scale, what it costs, and how it was found."""

    scale: float
    kl: float
    trace: tuple[tuple[float, float], ...]
    """Every (scale, KL) that was measured, in order."""
    reached: bool
    """Whether `kl` is within the tolerance of the target; else it is the nearest below it."""


class Scales:
    """Scales to measure one after the other, until one has the KL that is wanted.

    Solves `kl(scale) = target` by the secant method in log-log. For small scales KL grows as the
    square of the scale (a KL's gradient is zero at the base): the first step assumes that slope, or
    `growth`, and later ones that through the two nearest points. Once points on both sides are
    known, no step leaves the interval between them.

        scales = Scales(target, guess=1.0)
        for scale in scales:
            scales.measured(kl(scale))
        found = scales.calibration()
    """

    def __init__(
        self,
        target: float,
        *,
        guess: float,
        tolerance: float = 0.05,
        max_steps: int = 12,
        growth: float = 2.0,
    ) -> None:
        """
        Args:
            target: positive.
            guess: first scale to try, positive.
            tolerance: accepted relative error of the KL.
            max_steps: measurements at most.
            growth: the power of the scale that is assumed at first.

        Raises:
            InvalidRequest: target or guess is not positive and finite.
        """
        for name, value in (("target", target), ("guess", guess)):
            if not (math.isfinite(value) and value > 0):
                raise InvalidRequest(f"the {name} of a calibration must be positive, not {value}")
        self.trace: list[tuple[float, float]] = []
        """Every (scale, KL) that was measured, in order."""
        self._target = target
        self._scale = guess
        self._tolerance = tolerance
        self._max_steps = max_steps
        self._growth = growth

    def __iter__(self) -> Iterator[float]:
        while len(self.trace) < self._max_steps and not self._reached:
            if self.trace:
                self._scale = _next_scale(self.trace, self._target, self._growth)
            yield self._scale

    def measured(self, kl: float) -> None:
        """Args:
        kl: mean KL(base ‖ edited) at the scale that came last; maybe noisy, maybe infinite.
        """
        self.trace.append((self._scale, kl))

    @property
    def _reached(self) -> bool:
        if not self.trace:
            return False
        return abs(self.trace[-1][1] - self._target) <= self._tolerance * self._target

    def calibration(self) -> Calibration:
        """The scale that was found.

        Raises:
            EditFailed: no measured scale stays within the target.
        """
        if self._reached:
            return Calibration(*self.trace[-1], tuple(self.trace), reached=True)
        below = [(kl, scale) for scale, kl in self.trace if kl <= self._target]
        if not below:
            least = min(scale for scale, _ in self.trace)
            raise EditFailed(f"no scale down to {least:.3g} keeps the KL within {self._target}")
        kl, scale = max(below)
        return Calibration(scale, kl, tuple(self.trace), reached=False)

    def nearest(self) -> tuple[float, float]:
        """The measured scale whose KL is the nearest to the target, with that KL."""
        return min(self.trace, key=lambda point: abs(point[1] - self._target))


def _next_scale(trace: list[tuple[float, float]], target: float, slope: float) -> float:
    """Where the line through the two points nearest to the target, in log-log, meets it."""
    usable = [
        (math.log(scale), math.log(value / target))
        for scale, value in trace
        if _MEASURABLE_KL < value < math.inf
    ]
    if not usable:
        scale, value = trace[-1]
        return scale / 8 if value > target else scale * 8
    usable.sort(key=lambda point: abs(point[1]))
    x, y = usable[0]
    if len(usable) > 1 and usable[1][0] != x:
        slope = min(max((usable[1][1] - y) / (usable[1][0] - x), 0.5), 8.0)
    aim = x - min(max(y / slope, -_MAX_STEP), _MAX_STEP)
    low = max((math.log(s) for s, value in trace if value < target), default=-math.inf)
    high = min((math.log(s) for s, value in trace if value > target), default=math.inf)
    if low < high and not low < aim < high:
        aim = (low + high) / 2 if math.isfinite(low + high) else aim
    return math.exp(aim)
