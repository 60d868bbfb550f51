"""Logistic regression on weighted words and runs of letters, trained on the scorer split.

Words carry the topic of a trait, runs of letters carry the rest (endings, negations, marks) and
words that were never seen. A few hundred texts hold too few words of either alone: together they
agree better with lexicons and classifiers that were trained elsewhere, on text that a model
generated, and so they do without function words, whose weights are mostly chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models_store.schemas.scorers import ScorerInfo
from workers.evaluation.scorers.protocol import Training
from workers.evaluation.statistics import Floats

INFO = ScorerInfo(
    name="tfidf",
    measures="likeness to the undesired texts, by words and runs of letters",
    licence="Apache-2.0 (part of Scalpel; uses scikit-learn, BSD-3-Clause)",
    trained_on="own texts of the behaviour that neither the edit nor another scorer learns from",
    threshold=0.5,
    learns=True,
)


@dataclass(frozen=True, eq=False)
class TextClassifier:
    """A fitted scikit-learn pipeline with classes 0 and 1."""

    pipeline: Any

    def score(self, prompts: Sequence[str], texts: Sequence[str]) -> Floats:
        probabilities = self.pipeline.predict_proba(list(texts))[:, 1]
        return np.asarray(probabilities, dtype=np.float64)


def make(training: Training) -> TextClassifier:
    """Fit the classifier; unequal sides weigh the same."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    words = TfidfVectorizer(stop_words="english", sublinear_tf=True)
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 6), sublinear_tf=True)
    classifier = LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000)
    # Texts of nothing but marks and function words leave only the letters to go by.
    has_words = any(map(words.build_analyzer(), training.texts))
    vectorizer = make_union(words, letters) if has_words else letters
    pipeline = make_pipeline(vectorizer, classifier)
    return TextClassifier(pipeline.fit(list(training.texts), list(training.labels)))
