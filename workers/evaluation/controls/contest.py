"""Put an edit's rivals on its test prompts, and compare them with it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from models_store.schemas.measurements import Control, ControlKind, relied_on
from workers.evaluation.context.arms import ArmMaker
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.context.plan import fewer
from workers.evaluation.controls.controls import (
    PAPER_METHOD,
    Meter,
    PaperSetting,
    RandomKind,
    Rival,
    RivalKind,
    as_it_is,
    at_equal_kl,
    chooses_rows,
    draw,
)
from workers.evaluation.controls.prompt_only import best_wording, kl_of_wording, worded
from workers.evaluation.damage.neutral import calibration_meter
from workers.evaluation.effect.effect import Scored, edit_against_rival, score_grid
from workers.evaluation.effect.generations import Arm
from workers.evaluation.progress import Parts, Progress, span
from workers.evaluation.seeds import derive
from workers.runtime.side_path import SidePath
from workers.surgery.terms import Term

MEASURABLE_KL = 1e-5
"""Below this, in nats a token, rounding is most of what is measured: nothing is scaled to it."""
_TEXT = 0.4
"""Share of a control's time that goes into its text, about; the rest scales it."""


def _changes(term: Term) -> bool:
    return bool(term.coefficients.any() and term.direction.any())


def kinds_for(
    context: EvaluationContext, terms: Sequence[Term], paper: PaperSetting | None
) -> list[ControlKind]:
    """The controls of the plan that mean something for an edit."""

    def fits(kind: ControlKind) -> bool:
        if kind == "random_region":
            return chooses_rows(context.base, terms)
        if kind in ("paper_alpha", "paper_equal_kl"):
            return paper is not None and context.method != PAPER_METHOD
        return True

    return [kind for kind in context.plan.controls if fits(kind)]


class Contest:
    """The rivals of one edit: each is made, scaled, generated from and scored."""

    def __init__(
        self,
        context: EvaluationContext,
        terms: Sequence[Term],
        paper: PaperSetting | None,
        maker: ArmMaker,
        side: SidePath,
    ) -> None:
        """Args:
        terms: the edit at strength 1.
        """
        self.kinds = kinds_for(context, terms, paper)
        self._context = context
        self._terms = terms
        self._paper: Sequence[Term] = () if paper is None else paper.terms
        self._maker = maker
        self._side = side

    def run(self, scored: Sequence[Scored], parts: Parts) -> tuple[Control, ...]:
        """Measure every control.

        Args:
            scored: the edit on the test prompts by each scorer, the leading one first.
            parts: has a part for each of `kinds` and one that is called `controls_kl`.

        Returns:
            None at all for an edit that changes nothing: it has no rivals.
        """
        if not self.kinds:
            return ()
        with parts.part("controls_kl"):
            meter = calibration_meter(
                self._context.base,
                on_top=self._context.on_top,
                each=self._context.plan.control_neutral_each,
                side=self._side,
            )
            target = meter.kl(self._terms)
        if not target < math.inf or not any(map(_changes, self._terms)):
            return ()
        found: list[Control] = []
        for kind in self.kinds:
            with parts.part(kind) as progress:
                found += self._measured(kind, meter, target, scored, progress)
        return tuple(found)

    def _measured(
        self,
        kind: ControlKind,
        meter: Meter,
        target: float,
        scored: Sequence[Scored],
        progress: Progress,
    ) -> Iterator[Control]:
        scaling = span(progress, 0.0, 1 - _TEXT)
        writing = span(progress, 1 - _TEXT, 1.0)
        if kind == "prompt_only":
            yield self._prompted(scored, scaling, writing)
            return
        rivals = self._rivals(kind, meter, target, scaling)
        prompts, samples = self._share(kind)
        for done, rival in enumerate(rivals):
            mixture = [*self._context.on_top, (rival.terms, 1.0)]
            step = span(writing, done / len(rivals), (done + 1) / len(rivals))
            arm = self._maker.make(prompts, mixture, step, samples=samples)
            yield self._control(rival, arm, prompts, scored)

    def _rivals(
        self, kind: RivalKind, meter: Meter, target: float, progress: Progress
    ) -> list[Rival]:
        """Made and scaled; one that leaves no model that computes is passed over."""
        match kind:
            case "paper_alpha":
                made = [as_it_is(kind, self._paper, meter)]
            case "paper_equal_kl" if target < MEASURABLE_KL:
                made = []
            case "paper_equal_kl":
                made = [at_equal_kl(kind, self._paper, meter, target, progress=progress)]
            case "random_direction" | "random_region" if target < MEASURABLE_KL:
                # What neutral text does not feel cannot be scaled by it: one of the same norm.
                made = [as_it_is(kind, self._drawn(kind, 0), meter)]
            case "random_direction" | "random_region":
                draws = self._context.plan.draws
                made = [
                    at_equal_kl(
                        kind,
                        self._drawn(kind, number),
                        meter,
                        target,
                        number=number,
                        progress=span(progress, number / draws, (number + 1) / draws),
                    )
                    for number in range(draws)
                ]
        return [rival for rival in made if rival is not None]

    def _drawn(self, kind: RandomKind, number: int) -> list[Term]:
        context = self._context
        seed = derive(context.seeds[kind], f"draw/{number}")
        return draw(context.base, kind, self._terms, context.method, seed)

    def _prompted(self, scored: Sequence[Scored], choosing: Progress, writing: Progress) -> Control:
        """The base with the best wording before each prompt; its KL is measured, not matched."""
        context, on_top = self._context, self._context.on_top
        wording = best_wording(context, self._maker, scored[0].scorer, choosing)
        each = context.plan.control_neutral_each
        kl = kl_of_wording(context.base, wording, each=each, on_top=on_top, side=self._side)
        prompts, samples = self._share("prompt_only")
        asked = [worded(wording, prompt) for prompt in prompts]
        arm = self._maker.make(asked, on_top, writing, samples=samples)
        rival = Rival("prompt_only", (), 1.0, kl, None, 1)
        return self._control(rival, arm, prompts, scored).model_copy(update={"wording": wording})

    def _share(self, kind: ControlKind) -> tuple[list[str], int]:
        """The test prompts that a control gets, and how many samples of each."""
        plan = self._context.plan
        prompts = [prompt.text for prompt in self._context.prompts]
        if kind == "random_direction":
            return prompts, plan.samples
        few = fewer(plan.control_prompts, self._context.behavior.max_new_tokens)
        return prompts[:few], 1

    def _control(
        self, rival: Rival, arm: Arm, prompts: Sequence[str], scored: Sequence[Scored]
    ) -> Control:
        bootstrap = self._context.bootstrap
        edits = [one.first(len(prompts), len(arm.texts[0])) for one in scored]
        rivals = [edit.with_rival(score_grid(edit.scorer, prompts, arm.texts)) for edit in edits]
        relied = relied_on(one.scorer.headline for one in edits)
        return Control(
            kind=rival.kind,
            draw=rival.draw,
            scale=rival.scale,
            kl=rival.kl,
            target_kl=rival.target_kl,
            matched=rival.matched,
            evaluations=rival.evaluations,
            effects=tuple(one.effect(bootstrap) for one in rivals),
            versus_edit=edit_against_rival(edits[relied], rivals[relied], bootstrap),
        )
