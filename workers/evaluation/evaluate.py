"""Measure an edit on prompts and texts that took no part in making it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import JsonValue

from models_store.schemas.measurements import Control, Damage, Effect, ScorerCard
from models_store.schemas.report import Sample, Verdict
from workers.evaluation.context.arms import ArmMaker
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.controls.contest import Contest
from workers.evaluation.controls.controls import PaperSetting
from workers.evaluation.damage.damage import DamageMeter
from workers.evaluation.effect.effect import Scored, score_grid
from workers.evaluation.effect.generations import Arm, Decoding
from workers.evaluation.estimate.costs import expected_seconds
from workers.evaluation.extras.extras import ExtraMeasures, Extras, damage_texts
from workers.evaluation.progress import Parts, Progress
from workers.evaluation.scorers.prepare import prepare_scorers
from workers.evaluation.statistics import groups_of
from workers.evaluation.verdict import verdict
from workers.runtime.side_path import SidePath
from workers.surgery.terms import Term


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What came out; `workers.evaluation.receipt` makes the receipt of it."""

    scorers: tuple[ScorerCard, ...]
    effects: tuple[Effect, ...]
    damage: Damage
    controls: tuple[Control, ...]
    samples: tuple[Sample, ...]
    verdict: Verdict
    extras: Extras
    decoding: dict[str, JsonValue]
    seeds: dict[str, int]
    seconds: dict[str, float]
    """By part."""


def evaluate(
    context: EvaluationContext,
    terms: Sequence[Term],
    *,
    progress: Progress,
    paper: PaperSetting | None = None,
    before: Callable[[Progress], Arm] | None = None,
) -> Evaluation:
    """Measure effect, damage, controls and all else of an edit.

    This is the one place where an edit meets the test prompts; it must be chosen by then.

    Args:
        terms: the edit at strength 1.
        paper: Model Surgery fitted on the same texts, to compare with.
        before: gives what `arms.base_arm` of this context would, such as from a cache; by default
            it is generated.

    Raises:
        EditFailed: the edited model's logits are not finite.
        InvalidRequest: the behaviour names a scorer that there is not, or a suite cannot be run.
    """
    return _Evaluator(context, terms, paper, progress).run(before)


class _Evaluator:
    """One evaluation: what its parts share."""

    def __init__(
        self,
        context: EvaluationContext,
        terms: Sequence[Term],
        paper: PaperSetting | None,
        progress: Progress,
    ) -> None:
        self.context = context
        self.bootstrap = context.bootstrap
        self.prompts = context.prompts
        self.asked = [prompt.text for prompt in self.prompts]
        self.terms = list(terms)
        self.side = SidePath(context.base)
        self.maker = ArmMaker(context, self.side)
        self.contest = Contest(context, self.terms, paper, self.maker, self.side)
        self.parts = Parts(expected_seconds(context, self.contest.kinds), progress)

    def run(self, made_before: Callable[[Progress], Arm] | None) -> Evaluation:
        context = self.context
        with self.parts.part("base_text") as progress:
            if made_before is None:
                before = self.maker.make(self.asked, context.on_top, progress)
            else:
                before = made_before(progress)
        with self.parts.part("edited_text") as progress:
            mixture = [*context.on_top, (self.terms, 1.0)]
            after = self.maker.make(self.asked, mixture, progress)
        with self.parts.part("scores"):
            scored = self._score(before, after)
            effects = tuple(one.effect(self.bootstrap) for one in scored)
        damage = self._damage(before, after, scored[0])
        controls = self.contest.run(scored, self.parts)
        extras = ExtraMeasures(context, self.terms, self.maker, self.side, self.parts)
        cards = tuple(one.scorer.card(one.agreement(scored[0])) for one in scored)
        return Evaluation(
            scorers=cards,
            effects=effects,
            damage=damage,
            controls=controls,
            samples=shown_samples(context, self.asked, before, after),
            verdict=verdict(
                effects,
                cards,
                damage,
                controls,
                limits=context.limits,
                prompts=len(self.prompts),
                units=scored[0].units,
                visible=scored[0].smallest_visible(),
            ),
            extras=extras.measure(before, after, scored),
            decoding=decoding_of(context, context.decoding, len(self.prompts)),
            seeds=context.seeds,
            seconds=self.parts.seconds,
        )

    def _score(self, before: Arm, after: Arm) -> list[Scored]:
        context = self.context
        scorers = context.scorers or prepare_scorers(
            context.behavior, context.splits, context.seed, context.judges
        )
        groups = groups_of(self.prompts)
        return [
            Scored(
                scorer,
                score_grid(scorer, self.asked, before.texts),
                score_grid(scorer, self.asked, after.texts),
                groups,
            )
            for scorer in scorers
        ]

    def _damage(self, before: Arm, after: Arm, leading: Scored) -> Damage:
        context = self.context
        with self.parts.part("damage_base") as progress:
            meter = DamageMeter(
                context.base,
                damage_texts(context, before, leading),
                half="reporting",
                bootstrap=self.bootstrap,
                plan=context.plan.damage,
                reader=context.reader,
                on_top=context.on_top,
                side=self.side,
                progress=progress,
            )
        with self.parts.part("damage") as progress:
            return meter.measure(self.terms, (before, after), leading.desired, progress=progress)


def shown_samples(
    context: EvaluationContext, asked: Sequence[str], before: Arm, after: Arm
) -> tuple[Sample, ...]:
    """Some of the prompts at random with the first continuation of each model.

    Args:
        asked: the prompts; those that `after` has texts of, or more.
    """
    order = np.random.default_rng(context.seeds["shown"]).permutation(len(after.texts))
    return tuple(
        Sample(prompt=asked[index], base=before.texts[index][0], edited=after.texts[index][0])
        for index in order[: context.plan.shown].tolist()
    )


def decoding_of(
    context: EvaluationContext, decoding: Decoding, prompts: int
) -> dict[str, JsonValue]:
    """How the scored texts of so many prompts were generated, for the receipt."""
    return {
        "prompts": prompts,
        "samples": decoding.samples,
        "max_new_tokens": decoding.max_new_tokens,
        "temperature": decoding.temperature,
        "top_k": decoding.top_k,
        "chat": context.behavior.chat and context.base.has_chat_template,
        "resamples": context.plan.resamples,
    }
