"""Growth as a power of the size: least squares in log-log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PowerLaw:
    """seconds = factor · size ^ exponent."""

    exponent: float
    error: float
    """Standard error of the exponent."""
    factor: float

    def __call__(self, size: float) -> float:
        return float(self.factor * size**self.exponent)


def fit_power_law(sizes: Sequence[float], seconds: Sequence[float]) -> PowerLaw:
    """Least squares of log seconds on log size.

    Raises:
        ValueError: fewer than three points, or all of one size.
    """
    x, y = np.log(np.asarray(sizes, dtype=float)), np.log(np.asarray(seconds, dtype=float))
    if len(x) < 3 or np.ptp(x) == 0:
        raise ValueError("a power law with its error needs three points of different sizes")
    away = x - x.mean()
    spread = float(away @ away)
    slope = float(away @ y) / spread
    residuals = y - y.mean() - slope * away
    variance = float(residuals @ residuals) / (len(x) - 2)
    factor = float(np.exp(y.mean() - slope * x.mean()))
    return PowerLaw(slope, (variance / spread) ** 0.5, factor)
