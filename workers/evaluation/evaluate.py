"""Measure an edit on prompts and texts that took no part in making it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import JsonValue

from models_store.schemas.measurements import Control, Damage, Effect, ScorerCard
from models_store.schemas.report import Sample, Verdict
from workers import progress
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.controls.baselines import PaperMethod, PermutedFit
from workers.evaluation.controls.controls import Controls
from workers.evaluation.damage.damage import DamageMeter
from workers.evaluation.effect.effect import Scored, score_grid
from workers.evaluation.effect.generations import Arm, DecodingSettings
from workers.evaluation.estimate.costs import expected_seconds
from workers.evaluation.extras.extras import Extras, damage_texts, measure_extras
from workers.evaluation.scorers.prepare import prepare_scorers
from workers.evaluation.statistics import groups_of
from workers.evaluation.verdict import verdict
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
    prompts = [prompt.text for prompt in context.prompts]
    controls = Controls(context, terms, paper, permuted)
    with progress.step("evaluation") as whole:
        whole.plan(expected_seconds(context, controls.kinds))
        with progress.step("base_text"):
            before = context.generate_unedited(prompts)
        with progress.step("edited_text"):
            after = context.generate(context.model.plus(terms), prompts)
        with progress.step("scores"):
            scored = _scored(context, prompts, before, after)
            effects = tuple(each.effect(context.bootstrap) for each in scored)
        leading = scored[0]
        with progress.step("damage_base"):
            meter = DamageMeter.read(
                context.model,
                damage_texts(context, before, leading),
                use="reporting",
                bootstrap=context.bootstrap,
                plan=context.plan.damage,
                reader=context.reader,
            )
        with progress.step("damage"):
            damage = meter.measure(terms, (before, after), leading.desired)
        measured = controls.measure(scored)
        extras = measure_extras(context, terms, before, after, scored, meter, damage)
    cards = tuple(each.scorer.card(each.agreement(leading)) for each in scored)
    return Evaluation(
        scorers=cards,
        effects=effects,
        damage=damage,
        controls=measured,
        samples=shown_samples(context, prompts, before, after),
        verdict=verdict(
            effects,
            cards,
            damage,
            measured,
            limits=context.limits,
            prompts=len(prompts),
            units=leading.units,
            visible=leading.smallest_visible(),
        ),
        extras=extras,
        decoding=decoding_of(context, context.decoding, len(prompts)),
        seeds=context.seeds,
        seconds=whole.seconds,
    )


def _scored(
    context: EvaluationContext, prompts: Sequence[str], before: Arm, after: Arm
) -> list[Scored]:
    scorers = context.scorers or prepare_scorers(
        context.behavior, context.splits, context.seed, context.judges
    )
    groups = groups_of(context.prompts)
    return [
        Scored(
            scorer,
            score_grid(scorer, prompts, before.texts),
            score_grid(scorer, prompts, after.texts),
            groups,
        )
        for scorer in scorers
    ]


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
