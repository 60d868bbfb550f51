"""What the model itself continues prompts of the fit texts with, and how undesired that is.

The texts of a behaviour were written by others; an edit is there for what the model says. So a
teacher that learned from the fit texts scores several continuations of each prompt, and a method
follows

    g = -E_x E_y|x [(S(y) - E_y|x S) ∂/∂c log p(y | x)]

which to first order is how the expected score S of generated text falls (Williams 1992, with the
prompt's mean as the baseline). The scorers that judge the edit learned from other texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce

import numpy as np
import torch
from torch import Tensor

from workers import progress
from workers.evaluation.data.splits import Sides, drawn, made_prompts
from workers.evaluation.effect.generations import Arm, DecodingSettings
from workers.evaluation.scorers import char_ngrams, tfidf
from workers.evaluation.scorers.prepare import HEADLINE_AUC
from workers.evaluation.scorers.protocol import Training
from workers.evaluation.seeds import derive
from workers.evaluation.statistics import Floats
from workers.making.cache import Cache
from workers.making.fitting.source import Source
from workers.runtime.tokens import Encoded, encode_prompt
from workers.surgery.probe import auc

PROMPTS, SAMPLES = 120, 16
"""At most so many prompts, and so many continuations of each."""
_AT_ONCE = 8
"""Prompts whose continuations are generated, and kept, together."""
LEAST_OF_A_SIDE = 8
"""Continuations that the teacher must call undesired, and desired, to learn from them."""


@dataclass(frozen=True, eq=False)
class OwnTexts:
    """The model's own continuations."""

    texts: list[Encoded]
    weights: Tensor
    """fp32 `[texts]`: of the gradient of each text's Σ log p; of one prompt they add up to 0."""


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
    arm = reduce(Arm.plus, (make() for make in progress.track(continuations(source, cache))))
    scores = teacher.score(arm.flat_texts()).reshape(-1, SAMPLES)
    undesired = int((scores >= 0.5).sum())
    if min(undesired, scores.size - undesired) < LEAST_OF_A_SIDE:
        return None
    return OwnTexts(*_weighed(arm, scores))


def continuations(source: Source, cache: Cache) -> list[Callable[[], Arm]]:
    """The model's own continuations of the prompts of fit texts, a few prompts at a time."""
    decoding = DecodingSettings(
        max_new_tokens=source.max_new_tokens, seed=derive(source.seed, "own"), samples=SAMPLES
    )
    prompts = [
        encode_prompt(source.model.loaded, prompt.text, chat=source.chat)
        for prompt in drawn(made_prompts(source.splits.fit), PROMPTS)
    ]
    return [
        partial(cache.generated, prompts[start : start + _AT_ONCE], decoding)
        for start in range(0, len(prompts), _AT_ONCE)
    ]


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
    """Texts that are not empty, and their weights.

    Args:
        scores: `[prompts, samples]`.
    """
    weights = (scores.mean(axis=1, keepdims=True) - scores) / scores.size
    texts: list[Encoded] = []
    kept: list[float] = []
    for prompt, made, row in zip(arm.prompts, arm.made, weights.tolist(), strict=True):
        for text, weight in zip(made, row, strict=True):
            if text.ids:
                scored = (False,) * len(prompt) + (True,) * len(text.ids)
                texts.append(Encoded((*prompt, *text.ids), scored, len(prompt)))
                kept.append(weight)
    return texts, torch.tensor(kept)
