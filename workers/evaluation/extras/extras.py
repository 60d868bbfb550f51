"""What a receipt tells beyond effect, damage and controls, all of the edit that was chosen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from models_store.errors import EditFailed, InvalidRequest
from models_store.schemas.measurements import (
    Damage,
    Dose,
    Effect,
    LongForm,
    PointDamage,
    Selectivity,
    SideEffect,
    SuiteResult,
    Trait,
)
from workers import progress
from workers.evaluation.context.context import EvaluationContext, Parent
from workers.evaluation.context.plan import fewer
from workers.evaluation.damage.damage import DamageMeter, DamageTexts, with_text
from workers.evaluation.damage.domain import heldout_meter
from workers.evaluation.damage.long_form import long_form
from workers.evaluation.effect.effect import Scored, score_grid
from workers.evaluation.effect.generations import Arm
from workers.evaluation.extras.basics import basics
from workers.evaluation.extras.composition import (
    Combination,
    ComposedTrait,
    combinations,
    composition,
)
from workers.evaluation.extras.doses import doses
from workers.evaluation.extras.selectivity import selectivity
from workers.evaluation.extras.side_effects import side_effects
from workers.evaluation.scorers.prepare import PreparedScorer, prepare_scorers
from workers.evaluation.suites.protocol import ModelPair
from workers.evaluation.suites.run import run_suites
from workers.runtime.edits.edited_model import EditedModel
from workers.surgery.terms import Term


@dataclass(frozen=True)
class Extras:
    """Each is empty where the plan or the request does not ask for it."""

    doses: tuple[Dose, ...]
    side_effects: tuple[SideEffect, ...]
    long_form: tuple[LongForm, ...]
    selectivity: Selectivity | None
    composition: tuple[Trait, ...]
    suites: tuple[SuiteResult, ...]


def damage_texts(context: EvaluationContext, before: Arm, leading: Scored) -> DamageTexts:
    """What the damage of the chosen edit is measured on beside neutral text.

    Args:
        before: what the model without the edit makes of the test prompts.
        leading: the leading scorer on it.
    """
    return DamageTexts(
        chat=context.behavior.chat,
        prompts=context.prompts,
        base_text=before,
        base_desired=leading.desired[0],
        heldout=context.splits.heldout.desired,
        preserve=context.preserve,
    )


def measure_extras(
    context: EvaluationContext,
    terms: Sequence[Term],
    before: Arm,
    after: Arm,
    scored: Sequence[Scored],
    meter: DamageMeter,
    damage: Damage,
) -> Extras:
    """Measure them one after the other.

    Args:
        terms: the edit at strength 1.
        before, after: continuations of the test prompts without and with the edit.
        scored: both by each scorer, the leading one first.
        meter: what measured `damage`, that of the edit at strength 1.
    """
    return Extras(
        doses=_doses(context, terms, before, scored, meter, damage),
        side_effects=_side_effects(context, before, after, scored),
        long_form=_long_form(context, terms, scored),
        selectivity=_selectivity(context, terms, meter),
        composition=_composition(context, terms, before, after, scored),
        suites=(*_basics(context, terms), *_suites(context, terms)),
    )


def _doses(
    context: EvaluationContext,
    terms: Sequence[Term],
    before: Arm,
    scored: Sequence[Scored],
    meter: DamageMeter,
    damage: Damage,
) -> tuple[Dose, ...]:
    plan = context.plan
    few = fewer(plan.dose_prompts, context.behavior.max_new_tokens)
    prompt_texts = [prompt.text for prompt in context.prompts[:few]]

    first = before.first(len(prompt_texts), 1)
    unedited = [each.first(len(prompt_texts), 1) for each in scored]
    fewer_texts = meter.fewer(plan.dose_damage)
    effects = (
        tuple(each.effect(context.test_bootstrap) for each in unedited) if prompt_texts else ()
    )
    known = Dose(strength=1.0, damage=damage.point, effects=effects)
    with progress.step("doses"):

        def written(strength: float, damage: PointDamage) -> tuple[PointDamage, tuple[Effect, ...]]:
            model = context.model.plus(terms, strength)
            arm = context.generate(model, prompt_texts, samples=1)
            edited = [
                each.with_baseline(score_grid(each.scorer, prompt_texts, arm.texts))
                for each in unedited
            ]
            arms = first, arm
            full = with_text(damage, meter.fluency(arms, edited[0].desired), arms)
            return full, tuple(each.effect(context.test_bootstrap) for each in edited)

        return doses(fewer_texts, terms, known=known, written=written if prompt_texts else None)


def _side_effects(
    context: EvaluationContext, before: Arm, after: Arm, scored: Sequence[Scored]
) -> tuple[SideEffect, ...]:
    own = [each.scorer.name for each in scored]
    with progress.step("side_effects"):
        return side_effects(
            before, after, context.prompts, context.behavior, own, context.bootstrap
        )


def _long_form(
    context: EvaluationContext, terms: Sequence[Term], scored: Sequence[Scored]
) -> tuple[LongForm, ...]:
    if context.plan.long_form is None:
        return ()
    with progress.step("long_form"):
        return long_form(
            context.model,
            context.prompts,
            [each.scorer for each in scored],
            terms,
            chat=context.behavior.chat,
            decoding=context.decoding,
            bootstrap=context.bootstrap,
            plan=context.plan.long_form,
        )


def _selectivity(
    context: EvaluationContext, terms: Sequence[Term], meter: DamageMeter
) -> Selectivity | None:
    desired = meter.domain.heldout
    if not context.plan.selectivity or desired is None:
        return None
    with progress.step("selectivity"):
        undesired = heldout_meter(
            context.model,
            context.splits.heldout.undesired,
            chat=context.behavior.chat,
            at_most=len(desired.texts),
        )
        if undesired is None:
            return None
        return selectivity(undesired, desired, terms, context.bootstrap)


def _composition(
    context: EvaluationContext,
    terms: Sequence[Term],
    before: Arm,
    after: Arm,
    scored: Sequence[Scored],
) -> tuple[Trait, ...]:
    """Of an edit on top of others, or of a variant of several edits that is measured as it is."""
    if context.given:
        traits = list(_given(context))
    elif context.model.mixture:
        models = combinations(context.model, context.model.mixture, [(terms, 1.0)])
        scorers = [each.scorer for each in scored]
        known: Mapping[Combination, Arm] = {"parents": before, "both": after}
        own = ComposedTrait(models, context.behavior, context.prompts, scorers, known)
        traits = [own, *(_trait(models, *parent) for parent in _parents(context))]
    else:
        return ()
    with progress.step("composition"):
        return composition(traits, decoding=context.decoding, bootstrap=context.bootstrap)


def _given(context: EvaluationContext) -> Iterator[ComposedTrait]:
    """The trait of each edit of a variant, against all others of it."""
    if len(context.given) < 2:
        return
    for parent, scorers in _parents(context):
        place = parent.place
        others = (*context.given[:place], *context.given[place + 1 :])
        models = combinations(context.model, others, context.given[place : place + 1])
        yield _trait(models, parent, scorers)


def _trait(
    models: Mapping[Combination, EditedModel], parent: Parent, scorers: Sequence[PreparedScorer]
) -> ComposedTrait:
    return ComposedTrait(models, parent.behavior, parent.splits.test, scorers)


def _parents(context: EvaluationContext) -> Iterator[tuple[Parent, Sequence[PreparedScorer]]]:
    """Those with their scorers; one whose scorers are no longer to be had here is left out."""
    for parent in context.parents:
        try:
            scorers = prepare_scorers(parent.behavior, parent.splits, parent.seed, context.judges)
        except (InvalidRequest, EditFailed):
            continue
        yield parent, scorers


def _basics(context: EvaluationContext, terms: Sequence[Term]) -> Iterator[SuiteResult]:
    if not context.plan.basics:
        return
    pair = ModelPair(context.model, context.model.plus(terms), context.seed, context.bootstrap)
    with progress.step("basics"):
        yield basics(pair, context.base_text)


def _suites(context: EvaluationContext, terms: Sequence[Term]) -> tuple[SuiteResult, ...]:
    if context.suites is None:
        return ()
    with progress.step("suites"):
        return run_suites(
            context.suites.names,
            context.suites.config,
            context.model,
            terms,
            seed=context.seed,
            resamples=context.plan.resamples,
        )
