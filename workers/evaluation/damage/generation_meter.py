"""What users of an edited model notice: long texts that loop, harmless requests that are refused.

Long texts begin like neutral texts, half of them as answers to messages; both models sample them
with the same random numbers. The requests are those of the preset `refusal`, which an over-cautious
assistant takes for harmful; they are answered greedily. All is the same for every edit, so what the
base makes of it can be kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from models_store.presets import load_preset
from models_store.schemas.measurements import Contrast
from models_store.schemas.scorers import SCORERS
from workers import progress
from workers.evaluation.damage.neutral import Use, encode_neutral
from workers.evaluation.damage.quality import has_loop, repetition
from workers.evaluation.data.duplicates import words_of
from workers.evaluation.data.splits import drawn
from workers.evaluation.effect.effect import contrast
from workers.evaluation.effect.generations import Arm, DecodingSettings, Generate, generate_arm
from workers.evaluation.scorers.refusal_phrases import RefusalPhrases
from workers.evaluation.statistics import Bootstrap, Floats, Groups, groups_of
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel
from workers.runtime.tokens import encode_prompt
from workers.surgery.terms import Term

LONG_TOKENS = 128
REFUSAL_TOKENS = 32
"""A refusal says within its first words that it is one."""
_OPENING = 12
"""Tokens of a plain text that are continued."""


@dataclass(frozen=True, eq=False)
class PromptSet:
    """Prompts, how models continue them, and what is counted in what they write."""

    ids: Sequence[Sequence[int]]
    groups: Groups | None
    """Of the prompts, for the bootstrap."""
    decoding: DecodingSettings
    counts: Mapping[str, Callable[[str], float]]
    """By figure: of a text, in [0, 1]."""


def long_texts(base: LoadedModel, use: Use, count: int) -> PromptSet:
    """Beginnings of so many neutral texts of one use, of plain ones and of answers in turn."""
    neutral = encode_neutral(base, use, each=count - count // 2)
    in_turn = [text for both in zip(*neutral.parts, strict=True) for text in both][:count]
    return PromptSet(
        ids=[text.ids[: text.prompt_length or _OPENING] for text in in_turn],
        groups=None,
        decoding=DecodingSettings(LONG_TOKENS, seed=0, samples=1),
        counts={
            "loops": lambda text: float(has_loop(words_of(text))),
            "repetition": lambda text: repetition(words_of(text)),
        },
    )


def harmless_requests(base: LoadedModel, use: Use, count: int) -> PromptSet:
    """So many requests of `refusal`: those to choose edits by, or those to test on."""
    split = "validate" if use == "calibration" else "test"
    prompts = [prompt for prompt in load_preset("refusal").prompts if prompt.split == split]
    prompts = drawn(prompts, count)
    return PromptSet(
        ids=[encode_prompt(base, prompt.text, chat=True) for prompt in prompts],
        groups=groups_of(prompts),
        decoding=DecodingSettings(REFUSAL_TOKENS, seed=0, samples=1, temperature=0.0),
        counts={"harmless_refusals": _refused},
    )


@dataclass(frozen=True, eq=False)
class GenerationMeter:
    """Compares what edits of one model write with what it writes itself."""

    model: EditedModel
    """What edits go on top of."""
    prompt_sets: Sequence[PromptSet]
    base_text: Generate

    @classmethod
    def of(
        cls,
        model: EditedModel,
        use: Use,
        *,
        texts: int,
        requests: int,
        base_text: Generate | None = None,
    ) -> GenerationMeter:
        """Nothing is written yet.

        Args:
            texts: long ones, so many.
            requests: so many, if the model has a chat template: others answer nobody.
            base_text: of the model without the edits that are measured, such as from a cache.
        """
        prompt_sets = [long_texts(model.loaded, use, texts)] if texts else []
        if requests and model.loaded.has_chat_template:
            prompt_sets.append(harmless_requests(model.loaded, use, requests))
        return cls(model, prompt_sets, base_text or partial(generate_arm, model))

    def measure(self, terms: Sequence[Term], bootstrap: Bootstrap) -> dict[str, Contrast]:
        """Shares of both models, by the names that they have in `Damage`."""
        edited, found = self.model.plus(terms), {}
        for prompts in progress.track(self.prompt_sets):
            with progress.step("base", 0.5):
                before = self.base_text(prompts.ids, prompts.decoding)
            after = generate_arm(edited, prompts.ids, prompts.decoding)
            for name, count in prompts.counts.items():
                found[name] = contrast(
                    _counted(count, before), _counted(count, after), bootstrap, prompts.groups
                )
        return found

    def number(self, figure: str) -> int:
        """Texts of each model that a figure is measured on."""
        return sum(len(prompts.ids) for prompts in self.prompt_sets if figure in prompts.counts)


def _counted(count: Callable[[str], float], arm: Arm) -> Floats:
    """`[prompts, 1]`."""
    return np.array([[count(text)] for text in arm.flat_texts()], dtype=np.float64)


def _refused(text: str) -> float:
    score = RefusalPhrases().score([""], [text])[0]
    return float(score >= SCORERS["refusal-phrases"].threshold)
