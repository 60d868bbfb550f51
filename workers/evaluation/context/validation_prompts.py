"""Which prompts a search tries its candidates on, and how often it continues each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from models_store.errors import InvalidRequest
from models_store.schemas.items import Prompt
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.data.duplicates import repeats
from workers.evaluation.data.splits import Splits, beginnings, made_prompts
from workers.evaluation.seeds import derive

_MOST_PROMPTS = 100
_GENERATED_TOKENS = 3_200
"""Tokens that a model generates on all prompts, about: of long answers fewer are made."""
_FEWEST_PROMPTS = 30
_MOST_SAMPLES = 4
_ENOUGH_GENERATIONS = 60
"""With fewer prompts each is continued more than once, as far as the tokens go."""
_MADE_PROMPTS = 40

SELDOM = 0.2
"""Share of the base's text that is undesired, below which each prompt is continued more often."""


def validation_prompts(context: EvaluationContext) -> tuple[Prompt, ...]:
    """The prompts that candidates are tried on.

    A behaviour with so few prompts that none is for validation gets those that texts answer which
    methods are fitted on, or the first words of plain ones: test prompts stay unseen. Where there
    are no others than those, it gets longer beginnings of the texts.

    Raises:
        InvalidRequest: the texts begin with nothing but test prompts.
    """
    most = max(_FEWEST_PROMPTS, _GENERATED_TOKENS // context.behavior.max_new_tokens)
    prompts = context.splits.validate or _from_fit_texts(context.splits, context.seed)
    return prompts[: min(_MOST_PROMPTS, most)]


def samples_each(prompts: int, max_new_tokens: int, *, seldom: bool = False) -> int:
    """Continuations of each of so many validation prompts: as many as the tokens allow where the
    base seldom shows the behaviour."""
    enough = _GENERATED_TOKENS // max_new_tokens
    if not seldom:
        enough = min(_ENOUGH_GENERATIONS, enough)
    return min(_MOST_SAMPLES, max(1, math.ceil(enough / prompts)))


def _from_fit_texts(splits: Splits, seed: int) -> tuple[Prompt, ...]:
    tested, fit = splits.test, splits.fit
    made = _without(tested, made_prompts(fit)) or _without(tested, beginnings(fit))
    if not made:
        raise InvalidRequest.at(
            "/behavior/prompts",
            f"no prompt is left to choose an edit on: {len(splits.test)} are tested on, and the "
            "texts answer, or begin with, no others; give 5 prompts or more",
            "no_validation_prompts",
        )
    order = np.random.default_rng(derive(seed, "validation")).permutation(len(made))
    return tuple(made[index] for index in order[:_MADE_PROMPTS].tolist())


def _without(tested: Sequence[Prompt], prompts: Sequence[Prompt]) -> list[Prompt]:
    near = repeats([prompt.text for prompt in prompts], [prompt.text for prompt in tested])
    return [prompt for place, prompt in enumerate(prompts) if place not in near]
