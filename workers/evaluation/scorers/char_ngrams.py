"""Naive Bayes on runs of letters, trained on the scorer split: another family than `tfidf`."""

from __future__ import annotations

from models_store.schemas.scorers import ScorerInfo
from workers.evaluation.scorers.protocol import Training
from workers.evaluation.scorers.tfidf import TextClassifier

INFO = ScorerInfo(
    name="char-ngrams",
    measures="likeness to the undesired texts, by runs of letters, classified another way",
    licence="Apache-2.0 (part of Scalpel; uses scikit-learn, BSD-3-Clause)",
    trained_on="own texts of the behaviour that neither the edit nor another scorer learns from",
    threshold=0.5,
    learns=True,
)


def make(training: Training) -> TextClassifier:
    """Fit the classifier; unequal sides weigh the same."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    # Weighted vectors of unit length keep naive Bayes from being certain of every long text.
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)
    classifier = MultinomialNB(alpha=0.1, class_prior=[0.5, 0.5])
    pipeline = make_pipeline(vectorizer, classifier)
    return TextClassifier(pipeline.fit(list(training.texts), list(training.labels)))
