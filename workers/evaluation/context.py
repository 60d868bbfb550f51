"""What an edit is measured against, and how much is measured."""

from __future__ import annotations

from dataclasses import dataclass

from models_store.behaviors import Behavior
from models_store.items import Prompt
from models_store.methods import Limits
from workers.evaluation.controls import Kind
from workers.evaluation.generations import Decoding
from workers.evaluation.seeds import derive
from workers.evaluation.splits import Splits
from workers.evaluation.statistics import RESAMPLES, Bootstrap
from workers.runtime.loading import BaseModel
from workers.surgery.terms import Mixture

FEWEST_PROMPTS = 60
"""However long the answers are: with fewer, only large effects can be told from chance."""


@dataclass(frozen=True)
class EvaluationPlan:
    """How much is measured: more takes longer and makes intervals narrower."""

    test_prompts: int = 200
    """At most; see `generated_tokens`."""
    samples: int = 1
    """Continuations of each prompt; another prompt tells more than another sample of one."""
    generated_tokens: int = 6_400
    """Tokens that one model generates, about: long answers are taken from fewer prompts."""
    temperature: float = 0.8
    top_k: int = 40
    neutral_each: int = 44
    """Plain texts and answers that KL is reported on, so many of each."""
    heldout_texts: int = 60
    """Desired texts that domain damage is measured on."""
    fluency_prompts: int = 100
    """Prompts whose continuations the base model reads."""
    controls: tuple[Kind, ...] = ("random_direction", "random_region")
    control_prompts: int = 80
    control_samples: int = 1
    control_neutral_each: int = 16
    """Calibration texts that controls are scaled on, so many of each kind."""
    resamples: int = RESAMPLES
    shown: int = 8
    """Samples in the receipt."""

    def prompts_for(self, max_new_tokens: int) -> int:
        """How many test prompts to use for continuations of so many tokens."""
        affordable = self.generated_tokens // (self.samples * max_new_tokens)
        return min(self.test_prompts, max(FEWEST_PROMPTS, affordable))


STANDARD = EvaluationPlan()


@dataclass(frozen=True, eq=False)
class EvaluationContext:
    """What an edit is measured against and with."""

    base: BaseModel
    """Its weights must be the base's own."""
    behavior: Behavior
    splits: Splits
    method: str
    limits: Limits
    seed: int
    on_top: Mixture = ()
    """Edits that are part of the model the edit was fitted on, and of both arms."""
    plan: EvaluationPlan = STANDARD

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The test prompts that are used."""
        return self.splits.test[: self.plan.prompts_for(self.behavior.max_new_tokens)]

    @property
    def decoding(self) -> Decoding:
        return Decoding(
            max_new_tokens=self.behavior.max_new_tokens,
            seed=self.seeds["sampling"],
            samples=self.plan.samples,
            temperature=self.plan.temperature,
            top_k=self.plan.top_k,
        )

    @property
    def seeds(self) -> dict[str, int]:
        """Every seed that the evaluation uses, by what for."""
        uses = ("sampling", "bootstrap", "random_direction", "random_region", "shown")
        return {use: derive(self.seed, use) for use in uses}

    @property
    def bootstrap(self) -> Bootstrap:
        return Bootstrap(self.seeds["bootstrap"], self.plan.resamples)
