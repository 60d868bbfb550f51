"""What a receipt tells beyond effect, damage and controls, all of the edit that was chosen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from models_store.errors import EditFailed, InvalidRequest
from models_store.schemas.measurements import (
    Dose,
    Effect,
    LongForm,
    PointDamage,
    Selectivity,
    SideEffect,
    SuiteResult,
    Trait,
)
from workers.evaluation.context.arms import ArmMaker
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.context.plan import fewer
from workers.evaluation.damage.damage import DamageMeter, DamageTexts
from workers.evaluation.damage.long_form import long_form
from workers.evaluation.effect.effect import Scored, score_grid
from workers.evaluation.effect.generations import Arm
from workers.evaluation.extras.composition import Subject, composition
from workers.evaluation.extras.doses import doses
from workers.evaluation.extras.selectivity import selectivity
from workers.evaluation.extras.side_effects import side_effects
from workers.evaluation.progress import Parts
from workers.evaluation.scorers.prepare import prepare_scorers
from workers.evaluation.suites.run import run_suites
from workers.runtime.side_path import SidePath
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
        own=before,
        own_desired=leading.desired[0],
        heldout=context.splits.heldout.desired,
        preserve=context.preserve,
    )


class ExtraMeasures:
    """Measures them one after the other."""

    def __init__(
        self,
        context: EvaluationContext,
        terms: Sequence[Term],
        maker: ArmMaker,
        side: SidePath,
        parts: Parts,
    ) -> None:
        """Args:
        terms: the edit at strength 1.
        parts: has a part for each of the measures that are asked for.
        """
        self._context = context
        self._terms = terms
        self._maker = maker
        self._side = side
        self._parts = parts

    def measure(self, before: Arm, after: Arm, scored: Sequence[Scored]) -> Extras:
        """Args:
        before, after: continuations of the test prompts without and with the edit.
        scored: both by each scorer, the leading one first.
        """
        return Extras(
            doses=self._doses(before, scored),
            side_effects=self._side_effects(before, after),
            long_form=self._long_form(scored),
            selectivity=self._selectivity(),
            composition=self._composition(before, after, scored),
            suites=self._suites(),
        )

    def _doses(self, before: Arm, scored: Sequence[Scored]) -> tuple[Dose, ...]:
        context, plan = self._context, self._context.plan
        few = fewer(plan.dose_prompts, context.behavior.max_new_tokens)
        asked = [prompt.text for prompt in context.prompts[:few]]

        first = before.first(len(asked), 1)
        some = [one.first(len(asked), 1) for one in scored]
        with self._parts.part("doses") as progress:
            meter = DamageMeter(
                context.base,
                damage_texts(context, before, scored[0]),
                half="reporting",
                bootstrap=context.bootstrap,
                plan=plan.dose_damage,
                reader=context.reader,
                on_top=context.on_top,
                side=self._side,
            )

            def written(
                strength: float, damage: PointDamage
            ) -> tuple[PointDamage, tuple[Effect, ...]]:
                mixture = [*context.on_top, (self._terms, strength)]
                arm = self._maker.make(asked, mixture, lambda share: None, samples=1)
                own = [one.with_rival(score_grid(one.scorer, asked, arm.texts)) for one in some]
                full = meter.with_text(damage, (first, arm), own[0].desired)
                return full, tuple(one.effect(context.bootstrap) for one in own)

            return doses(meter, self._terms, written=written if asked else None, progress=progress)

    def _side_effects(self, before: Arm, after: Arm) -> tuple[SideEffect, ...]:
        context = self._context
        with self._parts.part("side_effects"):
            return side_effects(before, after, context.prompts, context.behavior, context.bootstrap)

    def _long_form(self, scored: Sequence[Scored]) -> tuple[LongForm, ...]:
        context = self._context
        if context.plan.long_form is None:
            return ()
        with self._parts.part("long_form") as progress:
            return long_form(
                context.base,
                context.prompts,
                [one.scorer for one in scored],
                self._terms,
                chat=context.behavior.chat,
                on_top=context.on_top,
                decoding=context.decoding,
                side=self._side,
                bootstrap=context.bootstrap,
                progress=progress,
                plan=context.plan.long_form,
            )

    def _selectivity(self) -> Selectivity | None:
        context = self._context
        if not context.plan.selectivity:
            return None
        with self._parts.part("selectivity"):
            return selectivity(
                context.base,
                context.splits.heldout,
                self._terms,
                chat=context.behavior.chat,
                on_top=context.on_top,
                side=self._side,
                bootstrap=context.bootstrap,
            )

    def _composition(self, before: Arm, after: Arm, scored: Sequence[Scored]) -> tuple[Trait, ...]:
        context = self._context
        if not context.on_top:
            return ()
        own = Subject(
            context.behavior,
            context.prompts,
            [one.scorer for one in scored],
            known={"parents": before, "both": after},
        )
        with self._parts.part("composition") as progress:
            return composition(
                context.base,
                [own, *self._parents()],
                self._terms,
                parents=context.on_top,
                decoding=context.decoding,
                side=self._side,
                bootstrap=context.bootstrap,
                progress=progress,
            )

    def _parents(self) -> Iterator[Subject]:
        """The traits below; one whose scorers are no longer to be had here is left out."""
        for parent in self._context.parents:
            try:
                scorers = prepare_scorers(
                    parent.behavior, parent.splits, parent.seed, self._context.judges
                )
            except (InvalidRequest, EditFailed):
                continue
            yield Subject(parent.behavior, parent.splits.test, scorers)

    def _suites(self) -> tuple[SuiteResult, ...]:
        context = self._context
        if context.suites is None:
            return ()
        with self._parts.part("suites") as progress:
            return run_suites(
                context.suites.names,
                context.suites.config,
                context.base,
                context.on_top,
                self._terms,
                seed=context.seed,
                side=self._side,
                progress=progress,
                resamples=context.plan.resamples,
            )
