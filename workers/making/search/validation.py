"""Try edits on validation prompts: what the leading scorer makes of them, and what they harm.

The other scorers take no part, so that they can judge the choice afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from models_store.schemas.items import Prompt
from models_store.schemas.measurements import Effect, PointDamage
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.context.validation_prompts import (
    SELDOM,
    samples_each,
    validation_prompts,
)
from workers.evaluation.damage.damage import (
    DamageMeter,
    DamagePlan,
    DamageTexts,
    with_generation_figures,
    with_text,
)
from workers.evaluation.damage.limits import exceeded
from workers.evaluation.effect.effect import Scored, score_grid
from workers.evaluation.effect.generations import Arm, DecodingSettings, generate_arms
from workers.evaluation.scorers.prepare import PreparedScorer
from workers.evaluation.seeds import derive
from workers.evaluation.statistics import Floats, groups_of
from workers.making.cache import Cache
from workers.surgery.fitted import FittedEdit
from workers.surgery.terms import Term

FEW_PROMPTS = 10
"""With fewer a choice is a guess."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A candidate at a scale, and what it made so far of validation prompts."""

    candidate: FittedEdit
    scale: float
    damage: PointDamage
    """So far as it can be measured without generating."""
    arm: Arm
    """Of the first prompts."""
    scores: Floats
    """`[prompts, samples]`, by the leading scorer."""
    seconds: float = 0.0

    @property
    def terms(self) -> list[Term]:
        """The edit at strength 1."""
        return self.candidate.at(self.scale)

    @property
    def prompts(self) -> int:
        return len(self.scores)


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
    fluency_error: float = 0.0
    """Standard error of the damage's `fluency`, about."""
    seconds: float = 0.0

    @property
    def terms(self) -> list[Term]:
        """The edit at strength 1."""
        return self.candidate.at(self.scale)

    @property
    def likely_damage(self) -> PointDamage:
        """Fluency a standard error higher, since on so few texts it may be that by chance."""
        fluency = self.damage.fluency
        if fluency is None:
            return self.damage
        return self.damage.model_copy(update={"fluency": fluency + self.fluency_error})

    @property
    def gain_low(self) -> float:
        """Lower bound of how much the rate of undesired text falls."""
        return -self.effect.rate.difference.high

    @property
    def eligible(self) -> bool:
        """It keeps all limits, and nothing says that it does the opposite of what it should."""
        return not self.exceeded and not self.effect.contradicts

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
        """Generate with the model without the edit, unless that was done before; more of each
        prompt where it seldom shows the behaviour.

        Prompts chosen by a few answers did not show a rare behaviour more often in others (5 %
        before and after, three seeds of tweets), so none are.
        """
        prompts = validation_prompts(context)
        encoded = context.encoded([prompt.text for prompt in prompts])
        for seldom in (False, True):
            samples = samples_each(len(prompts), context.behavior.max_new_tokens, seldom=seldom)
            seed = derive(context.seed, "validation")
            decoding = replace(context.decoding, samples=samples, seed=seed)
            before = cache.generated(encoded, decoding)
            scores = _scores(context, prompts, before)
            if _leading(context).undesired(scores).mean() >= SELDOM:
                break
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
            use="calibration",
            bootstrap=context.bootstrap,
            plan=plan,
            reader=context.reader,
            base_text=context.base_text,
        )

    def entry(self, candidate: FittedEdit, scale: float, damage: PointDamage) -> Entry:
        """One that has made nothing so far."""
        return Entry(candidate, scale, damage, Arm((), (), ()), self.before_scores[:0])

    def generate(self, entries: Sequence[Entry], prompts: int) -> list[Entry]:
        """Have entries, all as far as each other, continue the first so many prompts.

        All share the batches, and prompt by prompt the random numbers.
        """
        begun = time.monotonic()
        done = entries[0].prompts
        models = [self.context.model.plus(entry.terms) for entry in entries]
        new = generate_arms(models, self.before.prompts[done:prompts], self.decoding, first=done)
        scores = [
            score_grid(self.scorer, self.prompt_texts[done:prompts], arm.texts) for arm in new
        ]
        each = (time.monotonic() - begun) / len(entries)
        return [
            replace(
                entry,
                arm=entry.arm.plus(arm),
                scores=np.vstack([entry.scores, added]),
                seconds=entry.seconds + each,
            )
            for entry, arm, added in zip(entries, new, scores, strict=True)
        ]

    def falls(self, entry: Entry) -> Floats:
        """By how much the mean score of each prompt is less than without the edit, `[prompts]`."""
        before = self.before_scores[: entry.prompts]
        falls: Floats = (before - entry.scores).mean(axis=1)
        return falls

    def trial(self, entry: Entry, meter: DamageMeter) -> Trial:
        """What came of an entry; what it generated is read for fluency."""
        begun = time.monotonic()
        scored = self._against_base(entry.scores)
        arms = self.before.first(entry.prompts), entry.arm
        fluency = meter.fluency(arms, scored.desired)
        damage = with_text(entry.damage, fluency, arms)
        return Trial(
            candidate=entry.candidate,
            scale=entry.scale,
            prompts=entry.prompts,
            effect=scored.effect(self.context.bootstrap),
            damage=damage,
            exceeded=exceeded(self.context.limits, damage),
            arm=entry.arm,
            fluency_error=(fluency.rise.high - fluency.rise.value) / 2,
            seconds=entry.seconds + time.monotonic() - begun,
        )

    def with_generation_figures(self, trial: Trial, meter: DamageMeter) -> Trial:
        """With what users of the edited model would notice, which takes the longest to measure."""
        begun = time.monotonic()
        damage = with_generation_figures(
            trial.damage, meter.generation.measure(trial.terms, self.context.bootstrap)
        )
        return replace(
            trial,
            damage=damage,
            exceeded=exceeded(self.context.limits, damage),
            seconds=trial.seconds + time.monotonic() - begun,
        )

    def scored(self, arm: Arm) -> Scored:
        """What the leading scorer makes of an arm of the first prompts, against the base's."""
        prompts = len(arm.texts)
        return self._against_base(score_grid(self.scorer, self.prompt_texts[:prompts], arm.texts))

    def _against_base(self, scores: Floats) -> Scored:
        prompts = len(scores)
        groups = groups_of(self.prompts)[:prompts]
        return Scored(self.scorer, self.before_scores[:prompts], scores, groups)


def _scores(context: EvaluationContext, prompts: Sequence[Prompt], arm: Arm) -> Floats:
    """By the leading scorer."""
    return score_grid(_leading(context), [prompt.text for prompt in prompts], arm.texts)


def _leading(context: EvaluationContext) -> PreparedScorer:
    assert context.scorers is not None
    return context.scorers[0]
