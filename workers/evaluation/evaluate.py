"""Measure an edit on prompts and texts that took no part in making it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import JsonValue

from models_store.schemas.measurements import Control, Damage, Effect, ScorerCard
from models_store.schemas.report import SECOND_LOOK, Sample, Verdict
from workers import progress
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.context.plan import TEST_CONFIDENCE
from workers.evaluation.controls.baselines import PaperMethod, PermutedFit
from workers.evaluation.controls.controls import Controls
from workers.evaluation.damage.damage import DamageMeter
from workers.evaluation.effect.effect import Scored, scored_arms
from workers.evaluation.effect.generations import Arm, DecodingSettings
from workers.evaluation.estimate.costs import expected_seconds
from workers.evaluation.extras.extras import Extras, damage_texts, measure_extras
from workers.evaluation.scorers.prepare import PreparedScorer, prepare_scorers
from workers.evaluation.statistics import groups_of
from workers.evaluation.verdict import more_samples_may_tell, verdict
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
    paper: PaperMethod | None = None,
    permuted: PermutedFit | None = None,
) -> Evaluation:
    """Measure effect, damage, controls and all else of an edit.

    This is the one place where an edit meets the test prompts; it must be chosen by then.

    Args:
        terms: the edit at strength 1.
        paper: Model Surgery fitted on the same texts, to compare with.
        permuted: fits the edit's methods on permuted labels, to compare with.

    Raises:
        EditFailed: the edited model's logits are not finite.
        InvalidRequest: the behaviour names a scorer that there is not, or a suite cannot be run.
    """
    controls = Controls(context, terms, paper, permuted)
    scorers = context.scorers or prepare_scorers(
        context.behavior, context.splits, context.seed, context.judges
    )
    with progress.step("evaluation") as whole:
        whole.plan(expected_seconds(context, controls.kinds))
        look = _look(context, scorers, terms, context.plan.samples)
        before, after, leading = look.before, look.after, look.scored[0]
        with progress.step("damage_base"):
            meter = DamageMeter.read(
                context.model,
                damage_texts(context, before, leading),
                use="reporting",
                bootstrap=context.bootstrap,
                plan=context.plan.damage,
                reader=context.reader,
                base_text=context.base_text,
            )
        with progress.step("damage"):
            damage = meter.measure(terms, (before, after), leading.desired)
        measured = controls.measure(look.scored)
        extras = measure_extras(context, terms, before, after, look.scored, meter, damage)
        judged = _verdict(context, look, damage, measured)
        if more_samples_may_tell(judged, len(context.prompts)):
            with progress.step("second_look"):
                look = _look(context, scorers, terms, SECOND_LOOK * context.plan.samples)
                measured = controls.second_look(measured, look.scored)
                judged = _verdict(context, look, damage, measured, looks=2)
    return Evaluation(
        scorers=look.cards,
        effects=look.effects,
        damage=damage,
        controls=measured,
        samples=shown_samples(context, look.prompts, before, after),
        verdict=judged,
        extras=extras,
        decoding=decoding_of(
            context, replace(context.decoding, samples=look.scored[0].samples), len(look.prompts)
        ),
        seeds=context.seeds,
        seconds=whole.seconds,
    )


@dataclass(frozen=True, eq=False)
class _Look:
    """The edit on the test prompts, with so many samples of each."""

    prompts: Sequence[str]
    before: Arm
    after: Arm
    scored: Sequence[Scored]
    """By scorer, the leading one first."""
    effects: tuple[Effect, ...]

    @property
    def cards(self) -> tuple[ScorerCard, ...]:
        return tuple(each.scorer.card(each.agreement(self.scored[0])) for each in self.scored)


def _look(
    context: EvaluationContext,
    scorers: Sequence[PreparedScorer],
    terms: Sequence[Term],
    samples: int,
) -> _Look:
    """A second one has the first one's samples among its own."""
    prompts = [prompt.text for prompt in context.prompts]
    with progress.step("base_text"):
        before = context.generate_unedited(prompts, samples=samples)
    with progress.step("edited_text"):
        after = context.generate(context.model.plus(terms), prompts, samples=samples)
    with progress.step("scores"):
        scored = scored_arms(scorers, prompts, before, after, groups_of(context.prompts))
        effects = tuple(each.effect(context.test_bootstrap) for each in scored)
    return _Look(prompts, before, after, scored, effects)


def _verdict(
    context: EvaluationContext,
    look: _Look,
    damage: Damage,
    controls: Sequence[Control],
    *,
    looks: int = 1,
) -> Verdict:
    leading = look.scored[0]
    return verdict(
        look.effects,
        look.cards,
        damage,
        controls,
        limits=context.limits,
        prompts=len(look.prompts),
        units=leading.units,
        visible=leading.smallest_visible(TEST_CONFIDENCE),
        looks=looks,
    )


def shown_samples(
    context: EvaluationContext, prompt_texts: Sequence[str], before: Arm, after: Arm
) -> tuple[Sample, ...]:
    """Some of the prompts at random with the first continuation of each model.

    Args:
        asked: the prompts; those that `after` has texts of, or more.
    """
    order = np.random.default_rng(context.seeds["shown"]).permutation(len(after.texts))
    return tuple(
        Sample(
            prompt=prompt_texts[index], base=before.texts[index][0], edited=after.texts[index][0]
        )
        for index in order[: context.plan.shown].tolist()
    )


def decoding_of(
    context: EvaluationContext, decoding: DecodingSettings, prompts: int
) -> dict[str, JsonValue]:
    """How the scored texts of so many prompts were generated, for the receipt."""
    return {
        "prompts": prompts,
        "samples": decoding.samples,
        "max_new_tokens": decoding.max_new_tokens,
        "temperature": decoding.temperature,
        "top_k": decoding.top_k,
        "chat": context.behavior.chat and context.model.loaded.has_chat_template,
        "resamples": context.plan.resamples,
    }
