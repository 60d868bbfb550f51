"""Bootstrap intervals of paired differences and of ratios, over prompts or texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models_store.report import Interval

RESAMPLES = 10_000
_CELLS_AT_ONCE = 2_000_000
"""Resampled indices held in memory at a time."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Bootstrap:
    """How resamples are drawn: so many, by this seed."""

    seed: int
    resamples: int = RESAMPLES

    def sums(self, values: Floats) -> Floats:
        """Sums of the columns over units drawn with replacement.

        Args:
            values: `[units, columns]`, at least one unit.

        Returns:
            `[resamples, columns]`; each row is one draw of as many units as there are.
        """
        units = len(values)
        rng = np.random.default_rng(self.seed)
        rows = max(1, _CELLS_AT_ONCE // units)
        found = []
        for start in range(0, self.resamples, rows):
            drawn = rng.integers(0, units, (min(rows, self.resamples - start), units))
            found.append(values[drawn].sum(axis=1))
        return np.concatenate(found)

    def mean(self, values: Floats) -> Interval:
        """Mean of `values` `[units]` with its interval."""
        return self.ratio(values, np.ones_like(values))

    def ratio(self, numerators: Floats, denominators: Floats) -> Interval:
        """`Σ numerators / Σ denominators`, both `[units]`: a mean over all tokens of all texts."""
        draws = self.sums(np.stack([numerators, denominators], axis=1))
        value = float(numerators.sum() / denominators.sum())
        return interval(value, draws[:, 0] / draws[:, 1])


def interval(value: float, draws: Floats) -> Interval:
    """A value with the range that holds the middle 95 % of its resamples `[resamples]`."""
    low, high = np.quantile(draws, (0.025, 0.975))
    # Rounding may leave the value a last bit outside of draws that are all the same.
    return Interval(value=value, low=min(float(low), value), high=max(float(high), value))


def smallest_visible(differences: Floats) -> float:
    """The mean difference that this many units would show in 4 of 5 repetitions.

    Args:
        differences: paired, `[units]`; where all are equal one unit's worth is assumed.
    """
    units = len(differences)
    error = float(differences.std(ddof=1)) / units**0.5 if units > 1 else 0.0
    return 2.8 * error if error > 0 else 1.0 / units
