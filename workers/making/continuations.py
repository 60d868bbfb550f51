"""What a model itself continues prompts with, for edits that learn from it."""

from __future__ import annotations

from collections.abc import Sequence

from workers.evaluation.effect.generations import Arm, DecodingSettings
from workers.making.cache import Cache
from workers.runtime.tokens import encode_prompt

PROMPTS, SAMPLES = 120, 16
"""At most so many prompts, and so many continuations of each."""
CHOSEN = SAMPLES // 4
"""Continuations of a prompt on each side, at most."""


def continuations(
    cache: Cache, prompts: Sequence[str], *, chat: bool, max_new_tokens: int, seed: int
) -> Arm:
    """`SAMPLES` of each prompt, by the model whose cache it is, which keeps them."""
    ids = [encode_prompt(cache.model.loaded, prompt, chat=chat) for prompt in prompts]
    return cache.generated(ids, DecodingSettings(max_new_tokens, seed=seed, samples=SAMPLES))
