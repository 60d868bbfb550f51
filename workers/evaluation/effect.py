"""The effect of an edit on generated text, prompt by prompt against the base."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models_store.report import Contrast, Effect
from workers.evaluation.scorers import PreparedScorer
from workers.evaluation.statistics import Bootstrap, Floats


def contrast(base: Floats, edited: Floats, bootstrap: Bootstrap) -> Contrast:
    """Means over prompts of both models, and of their difference with its interval.

    Samples of one prompt are averaged first: they are not independent, prompts are.

    Args:
        base: `[prompts, samples]`.
        edited: the same shape; sample k of a prompt used the base's random numbers.
    """
    base_means, edited_means = base.mean(axis=1), edited.mean(axis=1)
    return Contrast(
        base=float(base_means.mean()),
        edited=float(edited_means.mean()),
        difference=bootstrap.mean(edited_means - base_means),
    )


def measure_effect(
    scorer: PreparedScorer, base: Floats, edited: Floats, bootstrap: Bootstrap
) -> Effect:
    """Compare the scores of two models on the same prompts.

    Args:
        base: scores `[prompts, samples]` in [0, 1].
        edited: the same shape.
    """
    return Effect(
        scorer=scorer.name,
        rate=contrast(
            scorer.undesired(base).astype(np.float64),
            scorer.undesired(edited).astype(np.float64),
            bootstrap,
        ),
        score=contrast(base, edited, bootstrap),
    )


def score_grid(
    scorer: PreparedScorer, prompts: Sequence[str], texts: Sequence[Sequence[str]]
) -> Floats:
    """Scores `[prompts, samples]` of generated texts.

    Args:
        texts: of each prompt, equally many samples.
    """
    samples = len(texts[0])
    flat = [text for of_prompt in texts for text in of_prompt]
    asked = [prompt for prompt in prompts for _ in range(samples)]
    return scorer.score(asked, flat).reshape(len(prompts), samples)
