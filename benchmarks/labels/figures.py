"""What scores are worth against labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from workers.evaluation.statistics import Floats
from workers.surgery.probe import auc

Labels = NDArray[np.bool_]
"""True for undesired, `[texts]`."""
LEAST_OF_A_SIDE = 5
"""With fewer texts of either side there is no curve to speak of."""
HALVINGS = 1000


@dataclass(frozen=True)
class Share:
    """`hits` out of `of` independent texts."""

    hits: int
    of: int

    @property
    def value(self) -> float | None:
        return self.hits / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's, 95 % (1927): it holds for few texts and for shares of 0 and 1 too.

        (p + z²/2n ± z √(p (1 - p) / n + z²/4n²)) / (1 + z²/n)
        """
        if not self.of:
            return 0.0, 1.0
        z = float(ndtri(0.975))
        p, n = self.hits / self.of, self.of
        middle, spread = p + z**2 / (2 * n), z * sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        low, high = ((middle + side * spread) / (1 + z**2 / n) for side in (-1, 1))
        return max(0.0, low), min(1.0, high)


@dataclass(frozen=True)
class Figures:
    """Of one scorer on the labelled texts of one preset."""

    flagged: Share
    """Of all texts."""
    precision: Share
    """Of the flagged texts, those labelled undesired."""
    recall: Share
    """Of the texts labelled undesired, those flagged."""
    f1: float
    auc: float | None
    """None, as the rest, with fewer than five texts of either side."""
    best_f1: float | None
    """At the threshold that is best on these very texts, so it looks better than it is."""
    best_threshold: float | None
    gain: float | None
    """Of F1 over the fixed threshold, on one half of the texts with the best threshold of the other
    half: the mean over random halves."""


def figures(scores: Floats, labels: Labels, threshold: float) -> Figures:
    """Count what a scorer gets right.

    Args:
        scores: `[texts]`.
        labels: of the same texts.
        threshold: a text counts as undesired from it on.
    """
    flagged = scores >= threshold
    hits, positives = int((flagged & labels).sum()), int(labels.sum())
    best = None
    if min(positives, len(labels) - positives) >= LEAST_OF_A_SIDE:
        best = best_threshold(scores, labels)
    return Figures(
        flagged=Share(int(flagged.sum()), len(labels)),
        precision=Share(hits, int(flagged.sum())),
        recall=Share(hits, positives),
        f1=f1(flagged, labels),
        auc=None if best is None else auc(scores, labels.astype(int).tolist()),
        best_f1=None if best is None else f1(scores >= best, labels),
        best_threshold=best,
        gain=None if best is None else gain_on_other_half(scores, labels, threshold),
    )


def f1(flagged: Labels, labels: Labels) -> float:
    """2 · hits / (flagged + undesired); 0 where there are neither."""
    either = int(flagged.sum()) + int(labels.sum())
    return 2 * int((flagged & labels).sum()) / either if either else 0.0


def best_threshold(scores: Floats, labels: Labels) -> float:
    """The lowest one with the highest F1, midway between the scores that it separates."""
    distinct = np.unique(scores)
    between: Sequence[float] = [distinct[0], *((distinct[1:] + distinct[:-1]) / 2)]
    return float(max(between, key=lambda threshold: f1(scores >= threshold, labels)))


def gain_on_other_half(
    scores: Floats, labels: Labels, threshold: float, halvings: int = HALVINGS
) -> float:
    """See `Figures.gain`. Each half has half of either side."""
    random = np.random.default_rng(0)
    sides = [np.flatnonzero(labels), np.flatnonzero(~labels)]
    gains = np.empty(halvings)
    for number in range(halvings):
        ours = np.zeros(len(labels), dtype=np.bool_)
        for side in sides:
            ours[random.permutation(side)[: len(side) // 2]] = True
        best = best_threshold(scores[ours], labels[ours])
        theirs, truth = scores[~ours], labels[~ours]
        gains[number] = f1(theirs >= best, truth) - f1(theirs >= threshold, truth)
    return float(gains.mean())
