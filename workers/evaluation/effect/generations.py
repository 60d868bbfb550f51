"""Generate from the test prompts with one variant of the model, an arm of the comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workers.evaluation.seeds import derive
from workers.runtime.decoding.decode import Generated
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel


@dataclass(frozen=True)
class DecodingSettings:
    """How the scored texts are made, the same for every arm."""

    max_new_tokens: int
    seed: int
    samples: int = 2
    """Continuations of each prompt."""
    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 1.0

    def row_seed(self, prompt: int, sample: int) -> int:
        """Seed of one continuation's random stream: no arm and no batch mate changes it."""
        return derive(self.seed, f"sample/{prompt}/{sample}")


@dataclass(frozen=True)
class Arm:
    """Continuations of every prompt by one model."""

    prompts: Sequence[Sequence[int]]
    made: Sequence[Sequence[Generated]]
    """By prompt, then sample."""
    texts: Sequence[Sequence[str]]

    def first(self, prompts: int, samples: int | None = None) -> Arm:
        """The arm of the first so many prompts, and of so many samples of each."""
        made = [row[:samples] for row in self.made[:prompts]]
        texts = [row[:samples] for row in self.texts[:prompts]]
        return Arm(self.prompts[:prompts], made, texts)

    def plus(self, other: Arm) -> Arm:
        """With the arm of more prompts behind it."""
        return Arm(
            [*self.prompts, *other.prompts],
            [*self.made, *other.made],
            [*self.texts, *other.texts],
        )

    def flat_texts(self) -> list[str]:
        return [text for samples in self.texts for text in samples]

    def flat_made(self) -> list[Generated]:
        return [text for row in self.made for text in row]


Generate = Callable[[Sequence[Sequence[int]], DecodingSettings], Arm]
"""Gives what one model makes of prompts, from before or by making it now."""


def generate_arm(
    model: EditedModel, prompts: Sequence[Sequence[int]], decoding: DecodingSettings
) -> Arm:
    """Continue every prompt `decoding.samples` times.

    Args:
        prompts: token ids.
    """
    return generate_arms([model], prompts, decoding)[0]


def generate_arms(
    models: Sequence[EditedModel],
    prompts: Sequence[Sequence[int]],
    decoding: DecodingSettings,
    *,
    first: int = 0,
) -> list[Arm]:
    """The arms of several edits of one base, in shared batches.

    Args:
        prompts: token ids.
        first: the number of the first prompt, on which the random numbers of all depend.
    """
    if len(models) > 1 and any(model.edits_experts for model in models):
        each = (generate_arms([model], prompts, decoding, first=first) for model in models)
        return [arm for arms in each for arm in arms]
    samples = range(decoding.samples)
    rows = [(prompt, sample) for prompt in range(len(prompts)) for sample in samples]
    made = iter(
        EditedModel.generate_each(
            [model for model in models for _ in rows],
            [prompts[prompt] for _ in models for prompt, _ in rows],
            max_new_tokens=decoding.max_new_tokens,
            temperature=decoding.temperature,
            top_k=decoding.top_k,
            top_p=decoding.top_p,
            seeds=[
                decoding.row_seed(first + prompt, sample) for _ in models for prompt, sample in rows
            ],
        )
    )
    return [
        arm_of(model.loaded, prompts, [[next(made) for _ in samples] for _ in prompts])
        for model in models
    ]


def arm_of(
    base: LoadedModel, prompts: Sequence[Sequence[int]], made: Sequence[Sequence[Generated]]
) -> Arm:
    """The arm of generations that are there already, by prompt and sample."""
    return Arm(prompts, made, [[_text(base, text) for text in row] for row in made])


def _text(base: LoadedModel, generated: Generated) -> str:
    text: str = base.tokenizer.decode(list(generated.ids), skip_special_tokens=True)
    return text
