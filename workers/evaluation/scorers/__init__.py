"""Scorers of generated text: how undesired it is, in [0, 1], and from what score on it counts.

A scorer is a file here with a `make` function and a row in `models_store.scorers`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from models_store.behaviors import Behavior
from models_store.errors import InvalidRequest
from models_store.items import Item, text_of
from models_store.report import ScorerCard
from models_store.scorers import DEFAULT_SCORERS, SCORERS, ScorerInfo
from workers.evaluation.scorers import (
    char_ngrams,
    formality_markers,
    length,
    profanity,
    refusal_phrases,
    tfidf,
    vader,
)
from workers.evaluation.scorers.protocol import Scorer, Training
from workers.evaluation.splits import Sides, Splits, prompt_of
from workers.evaluation.statistics import Floats

HEADLINE_AUC = 0.75
"""A scorer that tells held-out texts apart less well than this proves nothing."""
REVERSED_BELOW = 0.4
"""AUC on the scorer split under which the behaviour means a scorer's other side."""

_MAKERS: Mapping[str, Callable[[Training], Scorer]] = {
    "tfidf": tfidf.make,
    "char-ngrams": char_ngrams.make,
    "vader": vader.make,
    "profanity": profanity.make,
    "refusal-phrases": refusal_phrases.make,
    "formality-markers": formality_markers.make,
    "length": length.make,
}


@dataclass(frozen=True, eq=False)
class PreparedScorer:
    """A scorer turned so that 1 is this behaviour's undesired side, and checked."""

    info: ScorerInfo
    scorer: Scorer
    reversed: bool
    auc: float
    heldout_texts: int

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def headline(self) -> bool:
        return self.auc >= HEADLINE_AUC

    def score(self, prompts: Sequence[str], texts: Sequence[str]) -> Floats:
        """How undesired each text is, in [0, 1]; the prompts are what the texts answer."""
        scores = np.clip(self.scorer.score(prompts, texts), 0.0, 1.0).astype(np.float64)
        return 1.0 - scores if self.reversed else scores

    def undesired(self, scores: Floats) -> NDArray[np.bool_]:
        """Which scores count as undesired, the same shape."""
        return scores >= self.info.threshold

    def card(self, agreement: float) -> ScorerCard:
        return ScorerCard(
            info=self.info,
            reversed=self.reversed,
            auc=self.auc,
            heldout_texts=self.heldout_texts,
            headline=self.headline,
            agreement=agreement,
        )


def scorer_names(behavior: Behavior) -> tuple[str, ...]:
    """The scorers of a behaviour, at least two, each once.

    Raises:
        InvalidRequest: there is no scorer of a name.
    """
    for index, name in enumerate(behavior.scorers):
        if name not in SCORERS:
            raise InvalidRequest.at(
                f"/behavior/scorers/{index}",
                f"no scorer is called {name!r}; there are {', '.join(sorted(SCORERS))}",
                "unknown_scorer",
            )
    named = tuple(dict.fromkeys(behavior.scorers))
    if len(named) >= 2:
        return named
    return (*named, *(name for name in DEFAULT_SCORERS if name not in named))[:2]


def prepare_scorers(behavior: Behavior, splits: Splits, seed: int) -> tuple[PreparedScorer, ...]:
    """Train, turn and check the behaviour's scorers; the first one leads."""
    texts, labels, prompts = _labelled(splits.scorer)
    training = Training(texts, labels, seed)
    heldout, truth, asked = _labelled(splits.heldout)
    prepared = []
    for name in scorer_names(behavior):
        scorer = _MAKERS[name](training)
        known = roc_auc_score(labels, scorer.score(prompts, texts))
        backwards = bool(known < REVERSED_BELOW)
        auc = float(roc_auc_score(truth, scorer.score(asked, heldout)))
        prepared.append(
            PreparedScorer(
                info=SCORERS[name],
                scorer=scorer,
                reversed=backwards,
                auc=1 - auc if backwards else auc,
                heldout_texts=len(heldout),
            )
        )
    return tuple(prepared)


def _labelled(sides: Sides) -> tuple[list[str], list[int], list[str]]:
    """Texts, labels (1 is undesired) and what the texts answer."""
    items: tuple[Item, ...] = (*sides.undesired, *sides.desired)
    labels = [1] * len(sides.undesired) + [0] * len(sides.desired)
    return [text_of(item) for item in items], labels, [prompt_of(item) for item in items]


__all__ = ["PreparedScorer", "Scorer", "Training", "prepare_scorers", "scorer_names"]
