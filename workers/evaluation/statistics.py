"""Intervals of paired differences and of ratios, over prompts, templates or texts.

They are bootstrapped, with Student's t for the number of units. A mean of a handful of units has an
interval that never excludes 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from models_store.schemas.items import Prompt
from models_store.schemas.measurements import Interval

RESAMPLES = 10_000
USUAL_CONFIDENCE = 0.95
FEWEST_UNITS = 8
"""With fewer independent units no difference is told from 0: resamples of so few are too much
alike, of one they are all the same."""
CELLS_AT_ONCE = 2_000_000
"""Resampled indices held in memory at a time."""

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Groups = Sequence[int] | NDArray[np.int64]
"""The group of each unit, in any numbering. Units of a group are not independent."""


def groups_of(prompts: Sequence[Prompt]) -> NDArray[np.int64]:
    """Numbers from 0, `[prompts]`: prompts of one template are a group, any other is its own."""
    names = [(0, i) if p.template is None else (1, p.template) for i, p in enumerate(prompts)]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], dtype=np.int64)


def count_units(values: int, groups: Groups | None) -> int:
    """How many of them are independent: groups, or values where each is its own."""
    return values if groups is None else len(np.unique(np.asarray(groups)))


@dataclass(frozen=True)
class Bootstrap:
    """How resamples are drawn, and what intervals are made of them."""

    seed: int
    resamples: int = RESAMPLES
    cells_at_once: int = CELLS_AT_ONCE
    confidence: float = USUAL_CONFIDENCE
    """Of intervals."""

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
        rows = max(1, self.cells_at_once // units)
        draws = []
        for start in range(0, self.resamples, rows):
            drawn = rng.integers(0, units, (min(rows, self.resamples - start), units))
            draws.append(values[drawn].sum(axis=1))
        return np.concatenate(draws)

    def mean(
        self, differences: Floats, groups: Groups | None = None, reach: float = 1.0
    ) -> Interval:
        """Mean of paired differences `[units]` with its interval.

        Of fewer than `FEWEST_UNITS` units it is Student's t interval, which widens as they get
        fewer, and it always holds 0; of a single one, it is all that is possible.

        Args:
            groups: see `sums`.
            reach: no difference can be further from 0.
        """
        if count_units(len(differences), groups) < FEWEST_UNITS:
            return _mean_of_few(differences, groups, reach, self.confidence)
        return self.ratio(differences, np.ones_like(differences), groups)

    def ratio(
        self, numerators: Floats, denominators: Floats, groups: Groups | None = None
    ) -> Interval:
        """`Σ numerators / Σ denominators`, both `[units]`: a mean over all tokens of all texts."""
        draws = self.sums(np.stack([numerators, denominators], axis=1), groups)
        value = float(numerators.sum() / denominators.sum())
        units = count_units(len(numerators), groups)
        return interval(value, draws[:, 0] / draws[:, 1], units, self.confidence)

    def quantile(self, values: Floats, groups: Groups, share: float) -> Interval:
        """The smallest of the values `[values]` that at least `share` of them do not exceed.

        Args:
            groups: of each value; whole groups are drawn, such as the positions of a text.
        """
        order = np.argsort(values, kind="stable")
        numbers, place = np.unique(np.asarray(groups), return_inverse=True)
        units = len(numbers)
        owned = place[order][:, None] == np.arange(units)
        seen = owned.cumsum(axis=0, dtype=np.int32)  # of each group up to each value, in order
        rng = np.random.default_rng(self.seed)
        drawn = rng.multinomial(units, np.full(units, 1 / units), self.resamples)
        least = share * (drawn @ seen[-1])
        low, high = np.zeros_like(least, np.int64), np.full_like(least, len(values) - 1, np.int64)
        while (low < high).any():
            middle = (low + high) // 2
            enough = np.einsum("ru,ru->r", drawn, seen[middle]) >= least
            low, high = np.where(enough, low, middle + 1), np.where(enough, middle, high)
        value = float(np.quantile(values, share, method="inverted_cdf"))
        return interval(value, values[order][low], units, self.confidence)


def _mean_of_few(
    differences: Floats, groups: Groups | None, reach: float, confidence: float
) -> Interval:
    value = float(differences.mean())
    units = count_units(len(differences), groups)
    half = 2 * reach
    if units > 1:
        half = errors_within(units, confidence) * _standard_error(differences, groups)
    low, high = max(value - half, -reach), min(value + half, reach)
    return Interval(value=value, low=min(low, value, 0.0), high=max(high, value, 0.0))


def _standard_error(values: Floats, groups: Groups | None) -> float:
    """Of a mean over clusters; of single units, their standard deviation over a root."""
    rest = (values - values.mean())[:, None]
    sums = rest if groups is None else _by_group(rest, groups)
    spread = float((sums**2).sum()) * len(sums) / max(1, len(sums) - 1)
    error: float = spread**0.5 / len(values)
    return error


def _by_group(values: Floats, groups: Groups) -> Floats:
    """Sums of the rows of each group, `[groups, columns]`, groups by their number."""
    numbers, place = np.unique(np.asarray(groups), return_inverse=True)
    summed = np.zeros((len(numbers), values.shape[1]))
    np.add.at(summed, place, values)
    return summed


def interval(
    value: float, draws: Floats, units: int, confidence: float = USUAL_CONFIDENCE
) -> Interval:
    """A value with its interval, of 95 % by default, from its resamples `[resamples]`.

    Resamples of n units spread less than samples do, by `√((n - 1) / n)`, and as if their spread
    were known. With both put right, and `t` the point of Student's t that
    belongs to the confidence, a bound is

    - the resample at the share `Φ(-√(n / (n - 1)) t)` from its end, 0.6 % for 8 units and 2.4 % for
      200 (the expanded percentile interval; Hesterberg 2015, arXiv 1411.5279), or
    - `value ± t · √(n / (n - 1)) · standard deviation of the resamples`, but within them,

    whichever is further out: the first fits skewed differences, the second those of long tails.

    Args:
        units: that were resampled; of two independent samples, the smaller number.
    """
    if units == 1:
        low, high = draws.min(), draws.max()
    else:
        errors = errors_within(units, confidence) * (units / (units - 1)) ** 0.5
        half, cut = errors * draws.std(), ndtr(-errors)
        low = min(np.quantile(draws, cut), max(value - half, draws.min()))
        high = max(np.quantile(draws, 1 - cut), min(value + half, draws.max()))
    # Rounding may leave the value a last bit outside of draws that are all the same.
    return Interval(value=value, low=min(float(low), value), high=max(float(high), value))


def errors_within(units: int, confidence: float = USUAL_CONFIDENCE) -> float:
    """Standard errors from the mean of so many units, two at least, to the ends of its interval, by
    Student's t."""
    return float(stdtrit(units - 1, (1 + confidence) / 2))


def errors_to_see(units: int, confidence: float = USUAL_CONFIDENCE) -> float:
    """Standard errors from 0 at which the mean of so many units, two at least, is told from it in
    4 of 5 repetitions: at 95 % 2.8 of many units, 3.3 of 8."""
    return errors_within(units, confidence) + float(stdtrit(units - 1, 0.8))


def units_to_show(fall: Interval, units: int, confidence: float = USUAL_CONFIDENCE) -> int | None:
    """About how many units would make a measured fall significant in 4 of 5 repetitions.

    Args:
        fall: the interval of a difference, of so many units and this confidence.

    Returns:
        None where it does not fall, and where a single unit says nothing.
    """
    if fall.value >= 0 or units < 2:
        return None
    error = (fall.high - fall.low) / (2 * errors_within(units, confidence))
    return math.ceil(units * (errors_to_see(units, confidence) * error / fall.value) ** 2)


def smallest_visible(
    differences: Floats, groups: Groups | None = None, confidence: float = USUAL_CONFIDENCE
) -> float:
    """The mean difference that this many units would show in 4 of 5 repetitions.

    At least one unit's worth: differences may all be equal by chance. Fewer than `FEWEST_UNITS`
    units show nothing, which is told as 1, the largest change of a rate that there is.

    Args:
        differences: paired, `[prompts]`, of rates.
        groups: of each prompt; None: each is its own.
    """
    units = count_units(len(differences), groups)
    if units < FEWEST_UNITS:
        return 1.0
    error = _standard_error(differences, groups)
    return max(errors_to_see(units, confidence) * error, 1.0 / units)
