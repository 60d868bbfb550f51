"""What an edit is measured against, and with what."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

from models_store.operator.suites import Suites
from models_store.schemas.behaviors import Behavior
from models_store.schemas.items import Item, Prompt
from models_store.schemas.methods import Limits
from workers.evaluation.context.plan import STANDARD, TEST_CONFIDENCE, EvaluationPlan
from workers.evaluation.damage.reader import FluencyReader
from workers.evaluation.data.splits import Splits
from workers.evaluation.effect.generations import Arm, DecodingSettings, Generate, generate_arm
from workers.evaluation.scorers.prepare import NOBODY, Judges, PreparedScorer
from workers.evaluation.seeds import derive
from workers.evaluation.statistics import Bootstrap
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.tokens import Conversation, encode_prompt
from workers.surgery.terms import Mixture


@dataclass(frozen=True, eq=False)
class Parent:
    """An edit that the new one is on top of, or that is measured, by what it was made for."""

    behavior: Behavior
    splits: Splits
    seed: int
    """Of its own request, so that its scorers are those of its receipt."""
    place: int = 0
    """In the variant that names it."""


@dataclass(frozen=True)
class NamedSuites:
    """Standard suites that the request names, and where their data are."""

    names: tuple[str, ...]
    config: Suites


@dataclass(frozen=True, eq=False)
class EvaluationContext:
    """What an edit is measured against and with."""

    model: EditedModel
    """What the edit was fitted on and is compared to: the base, with the parent edits if any."""
    behavior: Behavior
    splits: Splits
    method: str
    """The `type` of the method that made the edit; of two together, such as `natural+bias`."""
    limits: Limits
    seed: int
    plan: EvaluationPlan = STANDARD
    preserve: Sequence[Item] = ()
    """What must stay as it is."""
    reader: FluencyReader | None = None
    """Judges fluency; None: the base does."""
    scorers: Sequence[PreparedScorer] | None = None
    """The behaviour's, the leading one first; None: they are prepared when they are needed."""
    judges: Judges = NOBODY
    """Whom scorers may ask that are prepared here."""
    parents: Sequence[Parent] = ()
    """Of the parent edits or of those that are measured; their traits are looked at again."""
    given: Mixture = ()
    """The edits of a variant that is measured as it is, on the base alone."""
    suites: NamedSuites | None = None
    base_text: Generate | None = None
    """Gives what the model without the edit makes of prompts, such as from a cache; None: it is
    generated."""

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The test prompts that are used."""
        return self.splits.test[: self.plan.prompts_for(self.behavior.max_new_tokens)]

    @property
    def decoding(self) -> DecodingSettings:
        return DecodingSettings(
            max_new_tokens=self.behavior.max_new_tokens,
            seed=self.seeds["sampling"],
            samples=self.plan.samples,
            temperature=self.plan.temperature,
            top_k=self.plan.top_k,
        )

    def opened(self) -> AbstractContextManager[None]:
        """Within the block a model that judges fluency stays in memory, and not after it."""
        return nullcontext() if self.reader is None else self.reader.opened()

    def encoded(self, prompts: Sequence[str | Conversation]) -> list[list[int]]:
        """Prompts as the model is given them, in token ids; see `encode_prompt`."""
        chat = self.behavior.chat
        return [encode_prompt(self.model.loaded, text, chat=chat) for text in prompts]

    def generate(
        self,
        model: EditedModel,
        prompts: Sequence[str | Conversation],
        *,
        samples: int | None = None,
        seed: int | None = None,
    ) -> Arm:
        """Continue prompts as all scored texts of an evaluation are made.

        Args:
            samples: of each; by default as many as the plan has.
            seed: of the random numbers; by default those of the test prompts.
        """
        return generate_arm(model, self.encoded(prompts), self._decoding(samples, seed))

    def generate_unedited(
        self,
        prompts: Sequence[str | Conversation],
        *,
        samples: int | None = None,
        seed: int | None = None,
    ) -> Arm:
        """The same with the model without the edit, unless it is known what that makes of them."""
        generate = self.base_text or partial(generate_arm, self.model)
        return generate(self.encoded(prompts), self._decoding(samples, seed))

    def _decoding(self, samples: int | None, seed: int | None) -> DecodingSettings:
        decoding = self.decoding
        return replace(
            decoding,
            samples=decoding.samples if samples is None else samples,
            seed=decoding.seed if seed is None else seed,
        )

    @property
    def seeds(self) -> dict[str, int]:
        """Every seed that the evaluation uses, by what for."""
        uses = (
            "sampling",
            "bootstrap",
            "random_direction",
            "permuted_labels",
            "random_region",
            "wording",
            "shown",
            "suites",
        )
        return {use: derive(self.seed, use) for use in uses}

    @property
    def bootstrap(self) -> Bootstrap:
        return Bootstrap(self.seeds["bootstrap"], self.plan.resamples)

    @property
    def test_bootstrap(self) -> Bootstrap:
        """Of what the verdict hangs on, which may be looked at twice."""
        return replace(self.bootstrap, confidence=TEST_CONFIDENCE)
