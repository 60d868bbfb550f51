"""Negative sentiment by VADER's lexicon and rules (Hutto and Gilbert 2014)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from workers.evaluation.scorers.protocol import Training
from workers.evaluation.statistics import Floats


class Vader:
    """`(1 - compound) / 2`: 0 is wholly positive, 0.5 neutral, 1 wholly negative."""

    def __init__(self) -> None:
        self._analyzer = SentimentIntensityAnalyzer()

    def score(self, prompts: Sequence[str], texts: Sequence[str]) -> Floats:
        compound = [self._analyzer.polarity_scores(text)["compound"] for text in texts]
        return (1.0 - np.asarray(compound, dtype=np.float64)) / 2.0


def make(training: Training) -> Vader:
    return Vader()
