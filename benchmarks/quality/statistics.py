"""Statistics of the quality table: paired changes over seeds and prompts, adjusted p-values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr

from benchmarks.quality.rows import BASE, ArmRow, Harm
from models_store.schemas.measurements import Interval
from workers.evaluation.seeds import derive
from workers.evaluation.statistics import RESAMPLES, Floats, count_units, interval

What = Literal["rate", "score"]
Values = Mapping[str, float]
"""By prompt."""
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Column:
    """A set of prompts and a scorer."""

    sheet: str
    scorer: str


@dataclass(frozen=True, eq=False)
class Cells:
    """Both arms by seed and prompt, the mean over draws; all `[cells]`."""

    seeds: Ints
    """Numbers from 0."""
    clusters: Ints
    """Numbers from 0: prompts of one template are a cluster, in whatever seed."""
    weights: Floats
    """That add up to 1: every prompt has the same, divided among the seeds that have it."""
    edited: Floats
    base: Floats
    prompts: int
    """Different ones."""


@dataclass(frozen=True)
class Change:
    """The change from the base to an arm, on the prompts that both have."""

    prompts: int
    base: float
    edited: float
    difference: Interval
    p: float
    """Two-sided, not adjusted."""

    @property
    def relative(self) -> float | None:
        """As a share of the base's rate; None where that is zero."""
        return self.difference.value / self.base if self.base else None


def columns(rows: Sequence[ArmRow]) -> list[Column]:
    """Every scorer of every set, the leading one first."""
    distinct = {
        Column(name, scorer): None
        for row in rows
        for name, sheet in row.sheets.items()
        for scorer in sheet.scorers
    }
    return list(distinct)


def paired(
    arms: Sequence[ArmRow], others: Sequence[ArmRow], column: Column, what: What
) -> Cells | None:
    """Values of both arms by seed and prompt, from the seeds that have both; None without any.

    Args:
        others: the arm to compare with, at most one row per seed.
    """
    of_seed = {row.seed: _values(row, column, what) for row in others}
    pairs: dict[tuple[int, str], list[tuple[float, float]]] = {}
    clusters: dict[str, str] = {}
    for row in arms:
        other = of_seed.get(row.seed, {})
        for prompt, value in _values(row, column, what).items():
            if prompt in other:
                pairs.setdefault((row.seed, prompt), []).append((value, other[prompt]))
        clusters |= row.sheets[column.sheet].cluster_of if column.sheet in row.sheets else {}
    if not pairs:
        return None
    seeds_of = Counter(prompt for _, prompt in pairs)
    edited, base = np.array([np.mean(values, axis=0) for values in pairs.values()]).T
    return Cells(
        seeds=_numbered([seed for seed, _ in pairs]),
        clusters=_numbered([clusters[prompt] for _, prompt in pairs]),
        weights=np.array([1 / seeds_of[prompt] for _, prompt in pairs]) / len(seeds_of),
        edited=edited,
        base=base,
        prompts=len(seeds_of),
    )


def change(
    arms: Sequence[ArmRow], others: Sequence[ArmRow], column: Column, what: What = "rate"
) -> Change | None:
    """The change from another arm to this one; None if they share no prompt."""
    cells = paired(arms, others, column, what)
    if cells is None:
        return None
    name = f"{arms[0].name}/{column.sheet}/{column.scorer}/{what}"
    difference, p = against_zero(cells, derive(0, name))
    base, edited = (float(cells.weights @ values) for values in (cells.base, cells.edited))
    return Change(cells.prompts, base, edited, difference, p)


def against_zero(cells: Cells, seed: int, resamples: int = RESAMPLES) -> tuple[Interval, float]:
    """The mean difference with its interval, and the p-value of a mean of 0.

    Seeds and clusters are both drawn, and a cell counts as often as its seed was drawn times as
    often as its cluster was (Owen and Eckles 2012, arXiv 1106.2125): seeds have prompts in common,
    so neither lies within the other. That errs on the wide side.
    """
    rng = np.random.default_rng(seed)
    drawn = [_times_drawn(rng, part, resamples) for part in (cells.seeds, cells.clusters)]
    means = _means(cells, drawn[0] * drawn[1])
    alone = [
        (count_units(len(part), part), _means(cells, times).var())
        for part, times in zip((cells.seeds, cells.clusters), drawn, strict=True)
    ]
    units = _effective_units(alone)
    value = float(cells.weights @ (cells.edited - cells.base))
    return interval(value, means, units), p_of_zero(value, means, units)


def _times_drawn(rng: np.random.Generator, part: Ints, resamples: int) -> Floats:
    """How often the seed, or the cluster, of each cell is drawn, `[resamples, cells]`."""
    units = int(part.max()) + 1
    times = rng.multinomial(units, np.full(units, 1 / units), resamples)
    return times[:, part].astype(np.float64)


def _means(cells: Cells, times: Floats) -> Floats:
    """Mean differences of resamples, `[resamples]`; those that drew no cell are left out.

    Args:
        times: that each cell was drawn, `[resamples, cells]`.
    """
    weights = times @ cells.weights
    sums = times @ (cells.weights * (cells.edited - cells.base))
    means: Floats = sums[weights > 0] / weights[weights > 0]
    return means


def _effective_units(levels: Sequence[tuple[int, float]]) -> int:
    """Effective number of units of a variance with several sources (Satterthwaite 1946): three
    seeds that hardly differ do not make it as uncertain as three units.

    Args:
        levels: the units of each and the variance of the mean that it brings.
    """
    known = [(units - 1, variance * units / (units - 1)) for units, variance in levels if units > 1]
    uncertain = sum(variance**2 / free for free, variance in known)
    if not uncertain:
        return max(units for units, _ in levels)
    return 1 + max(1, round(sum(variance for _, variance in known) ** 2 / uncertain))


def p_of_zero(value: float, draws: Floats, units: int) -> float:
    """Two-sided p-value of a mean of 0 from resamples: 1 less the level of the interval, of those
    that `workers.evaluation.statistics.interval` makes, that ends at 0.

    One is added to the resamples on the other side of 0 and to all, so that it is never 0 (Davison
    and Hinkley 1997, section 4.2).
    """
    if units == 1 or not value:
        return 1.0
    beyond = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    widened = (units / (units - 1)) ** 0.5
    errors = -ndtri(min(0.5, (beyond + 1) / (len(draws) + 1)))
    if beyond:
        errors = min(errors, abs(value) / draws.std())
    return float(2 * stdtr(units - 1, -errors / widened))


def holm(ps: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm 1979), in the order given.

    Sorted ascending, the k-th of m (from 0) becomes `(m - k) · p`, but not less than the one before
    it and not more than 1.
    """
    adjusted = [0.0] * len(ps)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = largest
    return adjusted


def mean_harm(rows: Sequence[ArmRow]) -> Harm:
    """Means over seeds and draws, of each figure where it was measured.

    `domain` is a mean over rows that have it from the same source, and the larger of these means:
    its limit applies to either.
    """
    harms = [row.harm for row in rows]
    means = {name: _mean(harms, name) for name in _FIGURES}
    sources = dict.fromkeys(harm.domain_source for harm in harms if harm.domain is not None)
    domain = {
        source: _mean([harm for harm in harms if harm.domain_source == source], "domain") or 0.0
        for source in sources
    }
    source = max(domain, key=lambda source: domain[source], default=None)
    return Harm(**{**means, "domain": domain.get(source)}, domain_source=source)


_FIGURES = Harm.model_fields.keys() - {"domain_source"}


def _mean(harms: Sequence[Harm], name: str) -> float | None:
    values = [value for harm in harms if (value := getattr(harm, name)) is not None]
    return float(np.mean(values)) if values else None


def by_name(rows: Sequence[ArmRow]) -> dict[str, list[ArmRow]]:
    """Measured rows by name, the base first."""
    groups: dict[str, list[ArmRow]] = {BASE: []}
    for row in rows:
        if row.failed is None:
            groups.setdefault(row.name, []).append(row)
    return groups


def _values(row: ArmRow, column: Column, what: What) -> Values:
    sheet = row.sheets.get(column.sheet)
    scores = None if sheet is None else sheet.scorers.get(column.scorer)
    if sheet is None or scores is None:
        return {}
    return dict(zip(sheet.prompts, getattr(scores, what), strict=True))


def _numbered(names: Sequence[Hashable]) -> Ints:
    """Numbers from 0, by name."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], dtype=np.int64)
