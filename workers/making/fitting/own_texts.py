"""What the model itself continues prompts of the fit texts with, and how undesired that is.

The texts of a behaviour were written by others; an edit is there for what the model says. So a
teacher that learned from the fit texts scores several continuations of each prompt: the quarter
that it finds least undesired is made likelier, the quarter that it finds most so less likely. The
scorers that judge the edit learned from other texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workers.evaluation.data.splits import Sides, drawn, made_prompts
from workers.evaluation.effect.generations import Arm
from workers.evaluation.scorers import char_ngrams, tfidf
from workers.evaluation.scorers.prepare import HEADLINE_AUC
from workers.evaluation.scorers.protocol import Training
from workers.evaluation.seeds import derive
from workers.evaluation.statistics import Floats
from workers.making.cache import Cache
from workers.making.continuations import CHOSEN, PROMPTS, SAMPLES, continuations
from workers.making.fitting.source import Source
from workers.runtime.tokens import Encoded
from workers.surgery.probe import auc

LEAST_OF_A_SIDE = 8
"""Continuations that the teacher must call undesired, and desired, to learn from them."""


@dataclass(frozen=True, eq=False)
class OwnTexts:
    """The model's own continuations."""

    texts: list[Encoded]
    weights: Tensor
    """fp32 `[texts]`: of the gradient of each text's Σ log p."""


def own_texts(source: Source, cache: Cache) -> OwnTexts | None:
    """Continue prompts of the fit texts, and have a teacher weigh what comes.

    Returns:
        None where there is nothing to learn from: the teacher does not separate held-out texts, or
        the model hardly ever shows one of the sides.
    """
    fit, heldout = source.splits.fit, source.splits.heldout
    teacher = _Teacher(fit, source.seed)
    if auc(teacher.score(heldout.texts), heldout.labels) < HEADLINE_AUC:
        return None
    prompts = [prompt.text for prompt in drawn(made_prompts(fit), PROMPTS)]
    arm = continuations(
        cache,
        prompts,
        chat=source.chat,
        max_new_tokens=source.max_new_tokens,
        seed=derive(source.seed, "own"),
    )
    scores = teacher.score(arm.flat_texts()).reshape(len(prompts), SAMPLES)
    undesired = int((scores >= 0.5).sum())
    if min(undesired, scores.size - undesired) < LEAST_OF_A_SIDE:
        return None
    return OwnTexts(*_weighed(arm, scores))


class _Teacher:
    """Learns from the fit texts, by two classifiers that err differently."""

    def __init__(self, fit: Sides, seed: int) -> None:
        training = Training(fit.texts, fit.labels, seed)
        self._scorers = [scorer.make(training) for scorer in (tfidf, char_ngrams)]

    def score(self, texts: Sequence[str]) -> Floats:
        """How undesired each text is, `[texts]` in [0, 1]."""
        each = [scorer.score([""] * len(texts), texts) for scorer in self._scorers]
        mean: Floats = np.mean(each, axis=0)
        return mean


def _weighed(arm: Arm, scores: Floats) -> tuple[list[Encoded], Tensor]:
    """The texts of both sides, but for empty ones, and their weights.

    Args:
        scores: `[prompts, samples]`.
    """
    texts: list[Encoded] = []
    weights: list[float] = []
    each = 1 / (len(scores) * CHOSEN)
    for prompt, made, order in zip(arm.prompts, arm.made, scores.argsort(axis=1), strict=True):
        for sign, places in ((1, order[:CHOSEN]), (-1, order[-CHOSEN:])):
            for ids in filter(None, (made[place].ids for place in places)):
                texts.append(Encoded.response(prompt, ids))
                weights.append(sign * each)
    return texts, torch.tensor(weights)
