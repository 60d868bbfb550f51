"""Statistics of the quality table: paired changes over prompts, and adjusted p-values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmarks.quality.rows import BASE, ArmRow, Harm
from models_store.schemas.measurements import Interval
from workers.evaluation.seeds import derive
from workers.evaluation.statistics import Bootstrap, Floats, interval

What = Literal["rate", "score"]
Values = Mapping[str, float]
"""By prompt."""


@dataclass(frozen=True)
class Column:
    """A set of prompts and a scorer."""

    sheet: str
    scorer: str


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
) -> tuple[Values, Values]:
    """Values of both arms by prompt, from the seeds that have both.

    Seeds and draws are averaged for each prompt, since only prompts are independent.

    Args:
        others: the arm to compare with, at most one row per seed.
    """
    of_seed = {row.seed: _values(row, column, what) for row in others}
    pairs: dict[str, list[tuple[float, float]]] = {}
    for row in arms:
        other = of_seed.get(row.seed, {})
        for prompt, value in _values(row, column, what).items():
            if prompt in other:
                pairs.setdefault(prompt, []).append((value, other[prompt]))
    means = {prompt: np.mean(values, axis=0) for prompt, values in sorted(pairs.items())}
    return (
        {prompt: float(mean[0]) for prompt, mean in means.items()},
        {prompt: float(mean[1]) for prompt, mean in means.items()},
    )


def change(
    arms: Sequence[ArmRow], others: Sequence[ArmRow], column: Column, what: What = "rate"
) -> Change | None:
    """The change from another arm to this one; None if they share no prompt."""
    after, before = paired(arms, others, column, what)
    if not after:
        return None
    edited, base = np.array(list(after.values())), np.array(list(before.values()))
    name = f"{arms[0].name}/{column.sheet}/{column.scorer}/{what}"
    difference, p = against_zero(edited - base, Bootstrap(derive(0, name)))
    return Change(len(edited), float(base.mean()), float(edited.mean()), difference, p)


def against_zero(differences: Floats, bootstrap: Bootstrap) -> tuple[Interval, float]:
    """Mean of paired differences `[prompts]` with its interval, and the p-value of a mean of 0.

    The p-value is twice the share of resamples on the other side of 0, with one added to both
    counts, so that it is never 0 (Davison and Hinkley 1997, section 4.2).
    """
    draws = bootstrap.sums(differences[:, None])[:, 0] / len(differences)
    beyond = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    p = min(1.0, 2 * (beyond + 1) / (len(draws) + 1))
    return interval(float(differences.mean()), draws, len(differences)), p


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
    """Means over seeds and draws, of each figure where it was measured."""
    means = {}
    for name in Harm.model_fields:
        values = [value for row in rows if (value := getattr(row.harm, name)) is not None]
        means[name] = float(np.mean(values)) if values else None
    return Harm(**means)


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
