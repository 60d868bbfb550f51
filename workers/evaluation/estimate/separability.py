"""Whether the sides of a behaviour are separable, by words and by length alone."""

from __future__ import annotations

from collections.abc import Sequence

from models_store.schemas.items import Item, text_of
from models_store.schemas.report import Separability
from workers.evaluation.data.splits import Sides, Splits
from workers.evaluation.scorers import tfidf
from workers.evaluation.scorers.protocol import Training
from workers.surgery.probe import auc

TELLING = 0.75
"""AUC from which on the sides are separable."""
MARGIN = 0.02


def separability(splits: Splits, seed: int) -> Separability:
    """Judge classifiers that know words or lengths only, on held-out texts.

    A length that explains the sides as well as their words do means that an edit may learn to
    write shorter or longer and nothing else.
    """
    texts, labels = _labelled(splits.fit)
    heldout, truth = _labelled(splits.heldout)
    words = tfidf.make(Training(texts, labels, seed)).score([""] * len(heldout), heldout)
    words_auc = auc(words, truth)
    # Whether undesired texts are the longer or the shorter ones is learned as well.
    backwards = auc(_lengths(texts), labels) < 0.5
    by_length = auc(_lengths(heldout), truth)
    length_auc = 1 - by_length if backwards else by_length
    return Separability(
        words_auc=words_auc, length_auc=length_auc, note=_note(words_auc, length_auc)
    )


def _note(words_auc: float, length_auc: float) -> str | None:
    if length_auc >= TELLING and length_auc >= words_auc - MARGIN:
        return (
            f"Length alone separates the sides (AUC {length_auc:.2f}): the edit may have "
            "learned to write shorter or longer texts and nothing else."
        )
    if words_auc < TELLING:
        return (
            f"Words hardly separate the sides (AUC {words_auc:.2f}): the difference may lie in "
            "the word order, or there may be too few texts to see it."
        )
    return None


def _lengths(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def _labelled(sides: Sides) -> tuple[list[str], list[int]]:
    items: tuple[Item, ...] = (*sides.undesired, *sides.desired)
    labels = [1] * len(sides.undesired) + [0] * len(sides.desired)
    return [text_of(item) for item in items], labels
