"""Negative sentiment by VADER's lexicon and rules (Hutto and Gilbert 2014)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models_store.schemas.scorers import ScorerInfo
from workers.evaluation.scorers.protocol import Training
from workers.evaluation.statistics import Floats

INFO = ScorerInfo(
    name="vader",
    measures="negative sentiment, by a lexicon and rules",
    licence="MIT (vaderSentiment)",
    trained_on="nothing of ours: a lexicon of 7,500 words rated by people",
    # VADER's own limit for negative: a compound score of -0.05.
    threshold=0.525,
)


class Vader:
    """`(1 - compound) / 2`: 0 is wholly positive, 0.5 neutral, 1 wholly negative."""

    def __init__(self) -> None:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

        self._analyzer = SentimentIntensityAnalyzer()

    def score(self, prompts: Sequence[str], texts: Sequence[str]) -> Floats:
        compound = [self._analyzer.polarity_scores(text)["compound"] for text in texts]
        return (1.0 - np.asarray(compound, dtype=np.float64)) / 2.0


def make(training: Training) -> Vader:
    return Vader()
