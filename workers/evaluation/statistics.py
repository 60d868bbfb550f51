"""Bootstrap intervals of paired differences and of ratios, over prompts, templates or texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models_store.items import Prompt
from models_store.report import Interval

RESAMPLES = 10_000
_CELLS_AT_ONCE = 2_000_000
"""Resampled indices held in memory at a time."""

Floats = NDArray[np.float64]
Groups = Sequence[int] | NDArray[np.int64]
"""The group of each unit, in any numbering. Units of a group are not independent."""


def groups_of(prompts: Sequence[Prompt]) -> NDArray[np.int64]:
    """Numbers from 0, `[prompts]`: prompts of one template are a group, any other is its own."""
    names = [(0, i) if p.template is None else (1, p.template) for i, p in enumerate(prompts)]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], dtype=np.int64)


@dataclass(frozen=True)
class Bootstrap:
    """How resamples are drawn: so many, by this seed."""

    seed: int
    resamples: int = RESAMPLES

    def sums(self, values: Floats, groups: Groups | None = None) -> Floats:
        """Sums of the columns over units drawn with replacement.

        Args:
            values: `[units, columns]`, at least one unit.
            groups: of each unit; whole groups are drawn. None: each unit is one.

        Returns:
            `[resamples, columns]`; each row is one draw of as many groups as there are.
        """
        if groups is not None:
            values = _by_group(values, groups)
        units = len(values)
        rng = np.random.default_rng(self.seed)
        rows = max(1, _CELLS_AT_ONCE // units)
        found = []
        for start in range(0, self.resamples, rows):
            drawn = rng.integers(0, units, (min(rows, self.resamples - start), units))
            found.append(values[drawn].sum(axis=1))
        return np.concatenate(found)

    def mean(self, values: Floats, groups: Groups | None = None) -> Interval:
        """Mean of `values` `[units]` with its interval; see `sums` for groups."""
        return self.ratio(values, np.ones_like(values), groups)

    def ratio(
        self, numerators: Floats, denominators: Floats, groups: Groups | None = None
    ) -> Interval:
        """`Σ numerators / Σ denominators`, both `[units]`: a mean over all tokens of all texts."""
        draws = self.sums(np.stack([numerators, denominators], axis=1), groups)
        value = float(numerators.sum() / denominators.sum())
        return interval(value, draws[:, 0] / draws[:, 1])


def _by_group(values: Floats, groups: Groups) -> Floats:
    """Sums of the rows of each group, `[groups, columns]`, groups by their number."""
    numbers, place = np.unique(np.asarray(groups), return_inverse=True)
    summed = np.zeros((len(numbers), values.shape[1]))
    np.add.at(summed, place, values)
    return summed


def interval(value: float, draws: Floats) -> Interval:
    """A value with the range that holds the middle 95 % of its resamples `[resamples]`."""
    low, high = np.quantile(draws, (0.025, 0.975))
    # Rounding may leave the value a last bit outside of draws that are all the same.
    return Interval(value=value, low=min(float(low), value), high=max(float(high), value))


def smallest_visible(differences: Floats, groups: Groups | None = None) -> float:
    """The mean difference that this many units would show in 4 of 5 repetitions.

    Args:
        differences: paired, `[units]`; where all are equal one unit's worth is assumed.
        groups: of each unit; None: each unit is one.
    """
    units = len(differences)
    rest = (differences - differences.mean())[:, None]
    sums = rest if groups is None else _by_group(rest, groups)
    # The standard error of a mean over clusters; of single units, their deviation over a root.
    spread = float((sums**2).sum()) * len(sums) / max(1, len(sums) - 1)
    error: float = spread**0.5 / units
    return 2.8 * error if error > 0 else 1.0 / units
