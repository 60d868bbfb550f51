"""Length in words against the length midway between the two sides of the scorer split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models_store.schemas.scorers import ScorerInfo
from workers.evaluation.scorers.protocol import Training
from workers.evaluation.statistics import Floats

INFO = ScorerInfo(
    name="length",
    measures="long responses, by the number of words",
    licence="Apache-2.0 (part of Scalpel)",
    trained_on="a share of the behaviour's own texts: the length midway between the sides",
    threshold=0.5,
    learns=True,
)

STEEPNESS = 4.0
"""Twice the middle length scores 0.94."""


@dataclass(frozen=True)
class Length:
    """`m^k / (m^k + n^k)` for n words, turned to 1 - that: 0.5 at the middle length m."""

    middle: float

    def score(self, prompts: Sequence[str], texts: Sequence[str]) -> Floats:
        words = np.array([len(text.split()) for text in texts], dtype=np.float64)
        power = (words / self.middle) ** STEEPNESS
        return power / (1.0 + power)


def make(training: Training) -> Length:
    """The middle is the geometric mean of the sides' median lengths."""
    words = np.array([max(1, len(text.split())) for text in training.texts], dtype=np.float64)
    labels = np.asarray(training.labels)
    medians = [float(np.median(words[labels == side])) for side in (0, 1)]
    return Length(float(np.sqrt(medians[0] * medians[1])))
