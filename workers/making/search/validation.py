"""Try edits on validation prompts: what the leading scorer makes of them, and what they harm.

The other scorers take no part, so that they can judge the choice afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from models_store.schemas.measurements import Effect, PointDamage
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.context.validation_prompts import samples_each, validation_prompts
from workers.evaluation.damage.damage import DamageMeter, DamagePlan, DamageTexts
from workers.evaluation.damage.limits import exceeded
from workers.evaluation.effect.effect import Scored, score_grid
from workers.evaluation.effect.generations import Arm, generate_arm
from workers.evaluation.progress import Progress
from workers.evaluation.scorers.prepare import PreparedScorer
from workers.evaluation.seeds import derive
from workers.evaluation.statistics import groups_of
from workers.making.cache import Cache
from workers.runtime.side_path import SidePath
from workers.runtime.tokens import encode_prompt
from workers.surgery.candidate import Candidate
from workers.surgery.terms import Term

FEW_PROMPTS = 10
"""With fewer a choice is a guess."""


@dataclass(frozen=True, eq=False)
class Trial:
    """A candidate at a scale, as it did on validation prompts."""

    candidate: Candidate
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


class Validation:
    """Everything that candidates are tried with."""

    def __init__(
        self, context: EvaluationContext, cache: Cache, side: SidePath, progress: Progress
    ) -> None:
        """Generate with the model without the edit, unless that was done before."""
        assert context.scorers is not None
        self.context = context
        self.prompts = validation_prompts(context)
        self.scorer: PreparedScorer = context.scorers[0]
        self._side = side
        self.asked = [prompt.text for prompt in self.prompts]
        chat = context.behavior.chat
        self._encoded = [encode_prompt(context.base, text, chat=chat) for text in self.asked]
        self._groups = groups_of(self.prompts)
        self.decoding = replace(
            context.decoding,
            samples=samples_each(len(self.prompts), context.behavior.max_new_tokens),
            seed=derive(context.seed, "validation"),
        )
        self.before = cache.remembered_arm(
            self._encoded,
            self.decoding,
            lambda: self._generate((), len(self.prompts), progress),
        )
        self._before_scores = score_grid(self.scorer, self.asked, self.before.texts)

    def meter(self, plan: DamagePlan, progress: Progress) -> DamageMeter:
        """What damage is measured with, on texts that nothing is reported on."""
        context = self.context
        texts = DamageTexts(
            chat=context.behavior.chat,
            prompts=self.prompts,
            own=self.before,
            own_desired=~self.scorer.undesired(self._before_scores),
            heldout=context.splits.scorer.desired,
            preserve=context.preserve,
        )
        return DamageMeter(
            context.base,
            texts,
            half="calibration",
            bootstrap=context.bootstrap,
            plan=plan,
            reader=context.reader,
            on_top=context.on_top,
            side=self._side,
            progress=progress,
        )

    def try_out(
        self,
        candidate: Candidate,
        scale: float,
        damage: PointDamage,
        meter: DamageMeter,
        progress: Progress,
        *,
        prompts: int,
    ) -> Trial:
        """Generate with a candidate from the first so many prompts, and score it.

        Args:
            damage: at this scale, so far as it can be told without generating.
        """
        after = self._generate(candidate.at(scale), prompts, progress)
        scored = self.scored(after)
        full = meter.with_text(damage, (self.before.first(prompts), after), scored.desired)
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
            self._before_scores[:prompts],
            score_grid(self.scorer, self.asked[:prompts], after.texts),
            self._groups[:prompts],
        )

    def _generate(self, terms: Sequence[Term], prompts: int, progress: Progress) -> Arm:
        return generate_arm(
            self.context.base,
            self._encoded[:prompts],
            [*self.context.on_top, (terms, 1.0)],
            self.decoding,
            side=self._side,
            progress=progress,
        )
