"""Naive Bayes on runs of letters, trained on the scorer split: another family than `tfidf`."""

from __future__ import annotations

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

from workers.evaluation.scorers.protocol import Training
from workers.evaluation.scorers.tfidf import TextClassifier


def make(training: Training) -> TextClassifier:
    """Fit the classifier; unequal sides weigh the same."""
    # Weighted vectors of unit length keep naive Bayes from being certain of every long text.
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)
    classifier = MultinomialNB(alpha=0.1, class_prior=[0.5, 0.5])
    pipeline = make_pipeline(vectorizer, classifier)
    return TextClassifier(pipeline.fit(list(training.texts), list(training.labels)))
