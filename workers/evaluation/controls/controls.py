"""Put the baselines of an edit on its test prompts, and compare them with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from models_store.schemas.measurements import Control, ControlKind, relied_on
from workers import progress
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.context.plan import fewer
from workers.evaluation.controls.baselines import (
    PAPER_METHOD,
    PROBES,
    Baseline,
    BaselineKind,
    Meter,
    PaperMethod,
    PermutedFit,
    RandomKind,
    as_it_is,
    at_equal_kl,
    chooses_rows,
    draw,
)
from workers.evaluation.controls.prompt_only import best_wording, kl_of_wording
from workers.evaluation.damage.neutral import calibration_meter
from workers.evaluation.effect.effect import Scored, edit_against_baseline, score_grid
from workers.evaluation.effect.generations import Arm
from workers.evaluation.seeds import derive
from workers.surgery.terms import Term, scaled

MEASURABLE_KL = 1e-5
"""Below this, in nats a token, rounding is most of what is measured: nothing is scaled to it."""
_DECISIVE: RandomKind = "random_direction"
"""Success hangs on it."""
_TEXT = 0.4
"""Share of a control's time that goes into its text, about; the rest scales it."""


def _changes(term: Term) -> bool:
    return bool(term.coefficients.any() and term.direction.any())


def kinds_for(
    context: EvaluationContext,
    terms: Sequence[Term],
    paper: PaperMethod | None,
    permuted: PermutedFit | None = None,
) -> list[ControlKind]:
    """The controls of the plan that mean something for an edit."""

    def fits(kind: ControlKind) -> bool:
        if kind == "random_region":
            return chooses_rows(context.model.loaded, terms)
        if kind == "permuted_labels":
            return permuted is not None
        if kind in PROBES:
            return paper is not None and context.method != PAPER_METHOD
        return True

    return [kind for kind in context.plan.controls if fits(kind)]


@dataclass(frozen=True, eq=False)
class Controls:
    """The baselines of one edit: each is made, scaled, generated from and scored."""

    context: EvaluationContext
    terms: Sequence[Term]
    """The edit at strength 1."""
    paper: PaperMethod | None = None
    permuted: PermutedFit | None = None

    @cached_property
    def kinds(self) -> list[ControlKind]:
        return kinds_for(self.context, self.terms, self.paper, self.permuted)

    def measure(self, scored: Sequence[Scored]) -> tuple[Control, ...]:
        """Measure every control.

        Args:
            scored: the edit on the test prompts by each scorer, the leading one first.

        Returns:
            None at all for an edit that changes nothing: it has no baselines.
        """
        context = self.context
        if not self.kinds:
            return ()
        with progress.step("controls_kl"):
            meter = calibration_meter(context.model, each=context.plan.control_neutral_each)
            target = meter.kl(self.terms)
        if not target < math.inf or not any(map(_changes, self.terms)):
            return ()
        controls: list[Control] = []
        for kind in self.kinds:
            with progress.step(kind):
                if kind == "prompt_only":
                    controls.append(self._prompted(scored))
                    continue
                with progress.step("scale", 1 - _TEXT):
                    baselines = self._scaled(kind, meter, target)
                with progress.step("text"):
                    controls += [self._tried(each, scored) for each in progress.track(baselines)]
        return tuple(controls)

    def second_look(
        self, controls: Sequence[Control], scored: Sequence[Scored]
    ) -> tuple[Control, ...]:
        """What `measure` gave, with random directions on as many samples as are scored now."""
        return tuple(
            self._tried(self._again(control), scored) if control.kind == _DECISIVE else control
            for control in progress.track(controls)
        )

    def _again(self, control: Control) -> Baseline:
        """The random direction that was measured: it is that of its draw, at its scale."""
        return Baseline(
            _DECISIVE,
            scaled(self._drawn(_DECISIVE, control.draw), control.scale),
            control.scale,
            control.kl,
            control.target_kl,
            control.evaluations,
            control.draw,
        )

    def _scaled(self, kind: BaselineKind, meter: Meter, target: float) -> list[Baseline]:
        """Made and scaled; one that leaves no model that computes is passed over."""
        match kind:
            case "paper_alpha":
                made = [as_it_is(kind, self._paper_terms(kind), meter)]
            case "paper_equal_kl" if target < MEASURABLE_KL:
                made = []
            case "paper_equal_kl":
                made = [at_equal_kl(kind, self._paper_terms(kind), meter, target)]
            case "permuted_labels":
                made = [self._fitted_on_permuted(meter, target)]
            case "random_direction" | "random_region" if target < MEASURABLE_KL:
                # What neutral text does not feel cannot be scaled by it: one of the same norm.
                made = [as_it_is(kind, self._drawn(kind, 0), meter)]
            case "random_direction" | "random_region":
                made = [
                    at_equal_kl(kind, self._drawn(kind, number), meter, target, number=number)
                    for number in progress.track(range(self.context.plan.draws))
                ]
        return [baseline for baseline in made if baseline is not None]

    def _paper_terms(self, kind: ControlKind) -> Sequence[Term]:
        return () if self.paper is None else self.paper[PROBES[kind]]

    def _fitted_on_permuted(self, meter: Meter, target: float) -> Baseline | None:
        kind: BaselineKind = "permuted_labels"
        with progress.step("fit", 0.7):
            terms = None if self.permuted is None else self.permuted(self.context.seeds[kind])
        if terms is None:
            return None
        if target < MEASURABLE_KL:  # as for the random ones
            return as_it_is(kind, terms, meter)
        return at_equal_kl(kind, terms, meter, target)

    def _drawn(self, kind: RandomKind, number: int) -> list[Term]:
        context = self.context
        seed = derive(context.seeds[kind], f"draw/{number}")
        return draw(context.model.loaded, kind, self.terms, context.method, seed)

    def _prompted(self, scored: Sequence[Scored]) -> Control:
        """The base with the best wording for each prompt; its KL is measured, not matched."""
        context = self.context
        with progress.step("wording", 0.4):
            wording = best_wording(context, scored[0].scorer)
        each = context.plan.control_neutral_each
        with progress.step("kl", 0.6 - _TEXT):
            kl = kl_of_wording(context.model, wording, each=each)
        prompts = self._few_prompts
        worded_prompts = [wording.with_prompt(prompt) for prompt in prompts]
        with progress.step("text"):
            arm = context.generate_unedited(worded_prompts, samples=1)
        baseline = Baseline("prompt_only", (), 1.0, kl, None, 1)
        control = self._control(baseline, arm, prompts, scored)
        return control.model_copy(update={"wording": wording.text, "role": wording.role})

    def _tried(self, baseline: Baseline, scored: Sequence[Scored]) -> Control:
        """A delta on the test prompts; one that is decisive on all that the edit was tried on."""
        context = self.context
        prompts, samples = self._prompts, scored[0].samples
        if baseline.kind != _DECISIVE:
            prompts, samples = self._few_prompts, 1
        model = context.model.plus(baseline.terms)
        arm = context.generate(model, prompts, samples=samples)
        return self._control(baseline, arm, prompts, scored)

    @property
    def _prompts(self) -> list[str]:
        return [prompt.text for prompt in self.context.prompts]

    @property
    def _few_prompts(self) -> list[str]:
        context = self.context
        return self._prompts[: fewer(context.plan.control_prompts, context.behavior.max_new_tokens)]

    def _control(
        self, baseline: Baseline, arm: Arm, prompts: Sequence[str], scored: Sequence[Scored]
    ) -> Control:
        bootstrap = self.context.test_bootstrap
        edits = [each.first(len(prompts), len(arm.texts[0])) for each in scored]
        others = [edit.with_baseline(score_grid(edit.scorer, prompts, arm.texts)) for edit in edits]
        relied = relied_on(each.scorer.headline for each in edits)
        return Control(
            kind=baseline.kind,
            probe=PROBES.get(baseline.kind),
            draw=baseline.draw,
            scale=baseline.scale,
            kl=baseline.kl,
            target_kl=baseline.target_kl,
            matched=baseline.matched,
            evaluations=baseline.evaluations,
            effects=tuple(each.effect(bootstrap) for each in others),
            versus_edit=edit_against_baseline(edits[relied], others[relied], bootstrap),
        )
