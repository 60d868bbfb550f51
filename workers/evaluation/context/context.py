"""What an edit is measured against, and with what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models_store.operator.suites import Suites
from models_store.schemas.behaviors import Behavior
from models_store.schemas.items import Item, Prompt
from models_store.schemas.methods import Limits
from workers.evaluation.context.plan import STANDARD, EvaluationPlan
from workers.evaluation.damage.reader import Reader
from workers.evaluation.data.splits import Splits
from workers.evaluation.effect.generations import Decoding
from workers.evaluation.scorers.prepare import NOBODY, Judges, PreparedScorer
from workers.evaluation.seeds import derive
from workers.evaluation.statistics import Bootstrap
from workers.runtime.loading import BaseModel
from workers.surgery.terms import Mixture


@dataclass(frozen=True, eq=False)
class Parent:
    """An edit that the new one is on top of, by what it was made for."""

    behavior: Behavior
    splits: Splits
    seed: int
    """Of its own request, so that its scorers are those of its receipt."""


@dataclass(frozen=True)
class AskedSuites:
    """Standard suites that the request names, and where their data are."""

    names: tuple[str, ...]
    config: Suites


@dataclass(frozen=True, eq=False)
class EvaluationContext:
    """What an edit is measured against and with."""

    base: BaseModel
    """Its weights must be the base's own."""
    behavior: Behavior
    splits: Splits
    method: str
    """The `type` of the method that made the edit; of two together, such as `natural+bias`."""
    limits: Limits
    seed: int
    on_top: Mixture = ()
    """Edits that are part of the model the edit was fitted on, and of both arms."""
    plan: EvaluationPlan = STANDARD
    preserve: Sequence[Item] = ()
    """What must stay as it is."""
    reader: Reader | None = None
    """Judges fluency; None: the base does."""
    scorers: Sequence[PreparedScorer] | None = None
    """The behaviour's, the leading one first; None: they are prepared when they are needed."""
    judges: Judges = NOBODY
    """Whom scorers may ask that are prepared here."""
    parents: Sequence[Parent] = ()
    """Of the edits in `on_top`, whose traits are looked at again."""
    suites: AskedSuites | None = None

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
        uses = (
            "sampling",
            "bootstrap",
            "random_direction",
            "random_region",
            "wording",
            "shown",
            "suites",
        )
        return {use: derive(self.seed, use) for use in uses}

    @property
    def bootstrap(self) -> Bootstrap:
        return Bootstrap(self.seeds["bootstrap"], self.plan.resamples)
