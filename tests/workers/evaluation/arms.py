"""Generations made up for tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models_store.schemas.items import Prompt
from workers.evaluation.effect.generations import Arm
from workers.evaluation.statistics import Bools
from workers.runtime.decoding.decode import Generated
from workers.runtime.loading import LoadedModel
from workers.runtime.tokens import encode_prompt

WORDS = ("the", "food", "was", "good", "people", "are", "kind", "so", "we", "never", "hate", "it")


def arm_of(base: LoadedModel, prompts: Sequence[Prompt], texts: Sequence[Sequence[str]]) -> Arm:
    """An arm that wrote these texts, `[prompts][samples]`."""
    asked = [encode_prompt(base, prompt.text, chat=False) for prompt in prompts]
    made = [
        [
            Generated(tuple(base.tokenizer(text, add_special_tokens=False)["input_ids"]), "length")
            for text in own
        ]
        for own in texts
    ]
    return Arm(asked, made, texts)


def some_texts(prompts: int, samples: int, seed: int) -> list[list[str]]:
    """Random words, never an empty text."""
    rng = np.random.default_rng(seed)
    return [
        [" " + " ".join(rng.choice(WORDS, rng.integers(2, 7))) for _ in range(samples)]
        for _ in range(prompts)
    ]


def all_of(arm: Arm, *, but: Sequence[tuple[int, int]] = ()) -> Bools:
    """True for every generation but some, given by prompt and sample."""
    desired = np.ones((len(arm.texts), len(arm.texts[0])), dtype=bool)
    for cell in but:
        desired[cell] = False
    return desired


def numbered(count: int, *, a_template: int = 1) -> list[Prompt]:
    """Different prompts; so many in a row share a template."""
    return [
        Prompt(text=f"what is day {i}", template=f"t{i // a_template}" if a_template > 1 else None)
        for i in range(count)
    ]
