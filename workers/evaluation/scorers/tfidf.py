"""Logistic regression on weighted words and pairs of words, trained on the scorer split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from workers.evaluation.scorers.protocol import Training
from workers.evaluation.statistics import Floats


@dataclass(frozen=True, eq=False)
class TextClassifier:
    """A fitted scikit-learn pipeline with classes 0 and 1."""

    pipeline: Any

    def score(self, prompts: Sequence[str], texts: Sequence[str]) -> Floats:
        probabilities = self.pipeline.predict_proba(list(texts))[:, 1]
        return np.asarray(probabilities, dtype=np.float64)


def make(training: Training) -> TextClassifier:
    """Fit the classifier; unequal sides weigh the same."""
    # Words such as "not" and "very" carry behaviours, so none are left out as too common.
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    classifier = LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000)
    pipeline = make_pipeline(vectorizer, classifier)
    return TextClassifier(pipeline.fit(list(training.texts), list(training.labels)))
