"""What a model answers with an instruction before its prompts, to be taught to it without."""

from __future__ import annotations

import math

from workers.evaluation.controls.prompt_only import Wording
from workers.evaluation.data.splits import drawn, made_prompts
from workers.evaluation.effect.generations import DecodingSettings
from workers.evaluation.seeds import derive
from workers.making.cache import Cache
from workers.making.fitting.source import Source
from workers.runtime.tokens import Encoded, encode_prompt

ANSWERS = 120
"""About so many, at least one to each prompt."""
_MOST_SAMPLES = 8


def prompted_answers(
    source: Source, cache: Cache, instruction: str
) -> list[tuple[Encoded, Encoded]]:
    """The model's answers to prompts of the fit texts, each after its prompt with and without the
    instruction; without one, with that of the source."""
    base, chat = source.model.loaded, source.chat
    system = chat and base.has_system_role
    wording = Wording(instruction or source.instruction, "system" if system else "before_prompt")
    prompts = [prompt.text for prompt in drawn(made_prompts(source.splits.fit), ANSWERS)]
    told = [encode_prompt(base, wording.with_prompt(prompt), chat=chat) for prompt in prompts]
    asked = [encode_prompt(base, prompt, chat=chat) for prompt in prompts]
    decoding = DecodingSettings(
        source.max_new_tokens,
        seed=derive(source.seed, "prompted"),
        samples=min(_MOST_SAMPLES, math.ceil(ANSWERS / len(prompts))),
    )
    made = cache.generated(told, decoding).made
    return [
        (Encoded.response(with_it, answer.ids), Encoded.response(without, answer.ids))
        for with_it, without, answers in zip(told, asked, made, strict=True)
        for answer in answers
        if answer.ids
    ]
