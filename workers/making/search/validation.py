"""Try edits on validation prompts: what the leading scorer makes of them, and what they harm.

The other scorers take no part, so that they can judge the choice afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from models_store.schemas.items import Prompt
from models_store.schemas.measurements import Effect, PointDamage
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.context.validation_prompts import samples_each, validation_prompts
from workers.evaluation.damage.damage import (
    DamageMeter,
    DamagePlan,
    DamageTexts,
    with_text,
)
from workers.evaluation.damage.limits import exceeded
from workers.evaluation.effect.effect import Scored, score_grid
from workers.evaluation.effect.generations import Arm, DecodingSettings, generate_arm
from workers.evaluation.scorers.prepare import PreparedScorer
from workers.evaluation.seeds import derive
from workers.evaluation.statistics import Floats, groups_of
from workers.making.cache import Cache
from workers.surgery.fitted import FittedEdit
from workers.surgery.terms import Term

FEW_PROMPTS = 10
"""With fewer a choice is a guess."""


@dataclass(frozen=True, eq=False)
class Trial:
    """A candidate at a scale, as it did on validation prompts."""

    candidate: FittedEdit
    scale: float
    prompts: int
    effect: Effect
    """By the leading scorer."""
    damage: PointDamage
    exceeded: tuple[str, ...]
    """Names of limits."""
    arm: Arm
    seconds: float = 0.0

    @property
    def terms(self) -> list[Term]:
        """The edit at strength 1."""
        return self.candidate.at(self.scale)

    @property
    def gain_low(self) -> float:
        """Lower bound of how much the rate of undesired text falls."""
        return -self.effect.rate.difference.high

    @property
    def gains(self) -> bool:
        """Whether there is less undesired text; the mean score tells where the rate does not."""
        rate, score = self.effect.rate.difference.value, self.effect.score.difference.value
        return rate < 0 or (rate == 0 and score < 0)

    @property
    def eligible(self) -> bool:
        return self.gains and not self.exceeded

    @property
    def rank(self) -> tuple[float, float, float]:
        """The larger, the better: bound of how much the mean score falls, which varies less than
        the rate does; then that of the rate; then less KL."""
        return (self.effect.least_fall, self.gain_low, -self.damage.kl)


@dataclass(frozen=True, eq=False)
class Validation:
    """Everything that candidates are tried with."""

    context: EvaluationContext
    prompts: Sequence[Prompt]
    decoding: DecodingSettings
    before: Arm
    """What the model without the edit makes of the prompts."""
    before_scores: Floats
    """By the leading scorer."""

    @classmethod
    def read(cls, context: EvaluationContext, cache: Cache) -> Self:
        """Generate with the model without the edit, unless that was done before."""
        prompts = validation_prompts(context)
        texts = [prompt.text for prompt in prompts]
        decoding = replace(
            context.decoding,
            samples=samples_each(len(prompts), context.behavior.max_new_tokens),
            seed=derive(context.seed, "validation"),
        )
        before = cache.generated(context.encoded(texts), decoding)
        scores = score_grid(_leading(context), texts, before.texts)
        return cls(context, prompts, decoding, before, scores)

    @property
    def scorer(self) -> PreparedScorer:
        return _leading(self.context)

    @property
    def prompt_texts(self) -> list[str]:
        return [prompt.text for prompt in self.prompts]

    def meter(self, plan: DamagePlan) -> DamageMeter:
        """What damage is measured with, on texts that nothing is reported on."""
        context = self.context
        texts = DamageTexts(
            chat=context.behavior.chat,
            prompts=self.prompts,
            base_text=self.before,
            base_desired=~self.scorer.undesired(self.before_scores),
            heldout=context.splits.scorer.desired,
            preserve=context.preserve,
        )
        return DamageMeter.read(
            context.model,
            texts,
            half="calibration",
            bootstrap=context.bootstrap,
            plan=plan,
            reader=context.reader,
        )

    def try_out(
        self,
        candidate: FittedEdit,
        scale: float,
        damage: PointDamage,
        meter: DamageMeter,
        *,
        prompts: int,
    ) -> Trial:
        """Generate with a candidate from the first so many prompts, and score it.

        Args:
            damage: at this scale, so far as it can be told without generating.
        """
        model = self.context.model.plus(candidate.at(scale))
        after = generate_arm(model, self.before.prompts[:prompts], self.decoding)
        scored = self.scored(after)
        arms = self.before.first(prompts), after
        full = with_text(damage, meter.fluency(arms, scored.desired), arms)
        return Trial(
            candidate=candidate,
            scale=scale,
            prompts=prompts,
            effect=scored.effect(self.context.bootstrap),
            damage=full,
            exceeded=exceeded(self.context.limits, full),
            arm=after,
        )

    def scored(self, after: Arm) -> Scored:
        """What the leading scorer makes of an arm of the first prompts, against the base's."""
        prompts = len(after.texts)
        return Scored(
            self.scorer,
            self.before_scores[:prompts],
            score_grid(self.scorer, self.prompt_texts[:prompts], after.texts),
            groups_of(self.prompts)[:prompts],
        )


def _leading(context: EvaluationContext) -> PreparedScorer:
    assert context.scorers is not None
    return context.scorers[0]
