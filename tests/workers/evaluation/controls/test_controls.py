from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from models_store.schemas.measurements import Control
from tests.workers.evaluation.contexts import PLAN, bias_term, gate_term, small_context
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.context.plan import ALL_CONTROLS
from workers.evaluation.controls.baselines import PaperMethod, PermutedFit
from workers.evaluation.controls.controls import Controls, kinds_for
from workers.evaluation.damage.neutral import calibration_meter
from workers.evaluation.effect.effect import Scored, score_grid
from workers.evaluation.scorers.prepare import PreparedScorer, prepare_scorers
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel, load_base
from workers.surgery.terms import Term

PAPER: PaperMethod = {"paper": [gate_term(0.2)], "converged": [gate_term(0.3)]}


@pytest.fixture(scope="module")
def base(pico_folder: Path) -> LoadedModel:
    return load_base(pico_folder, device="cpu", dtype="float32")


def _controls(
    context: EvaluationContext,
    terms: Sequence[Term],
    paper: PaperMethod | None = PAPER,
    scorers: Sequence[PreparedScorer] = (),
    permuted: PermutedFit | None = None,
) -> tuple[Control, ...]:
    asked = [prompt.text for prompt in context.prompts]
    before = context.generate(context.model, asked)
    after = context.generate(context.model.plus(terms), asked)
    scored = [
        Scored(
            scorer, score_grid(scorer, asked, before.texts), score_grid(scorer, asked, after.texts)
        )
        for scorer in scorers or prepare_scorers(context.behavior, context.splits, context.seed)
    ]
    return Controls(context, terms, paper, permuted).measure(scored)


def test_an_edit_by_model_surgery_gets_no_paper_control_of_itself(base: LoadedModel) -> None:
    context = small_context(base, method="model_surgery", plan=replace(PLAN, controls=ALL_CONTROLS))
    kinds = kinds_for(context, [gate_term()], PAPER)
    assert kinds == ["random_direction", "random_region", "prompt_only"]


def test_every_edit_gets_the_controls_that_mean_something_for_it(base: LoadedModel) -> None:
    context = small_context(base, plan=replace(PLAN, controls=ALL_CONTROLS))
    assert kinds_for(context, [bias_term()], PAPER) == [
        "random_direction",
        "prompt_only",
        "paper_alpha",
        "paper_equal_kl",
    ]
    assert kinds_for(context, [bias_term()], None) == ["random_direction", "prompt_only"]
    natural = replace(context, method="natural")
    assert kinds_for(natural, [gate_term()], PAPER, _permuted) == list(ALL_CONTROLS)


def _permuted(seed: int) -> list[Term]:
    return [bias_term(seed=seed)]


PERMUTED = replace(PLAN, controls=("permuted_labels",))


def test_a_fit_on_permuted_labels_is_met_at_the_edits_kl(base: LoadedModel) -> None:
    context = small_context(base, plan=PERMUTED)
    (control,) = _controls(context, [bias_term()], permuted=_permuted)
    meter = calibration_meter(EditedModel(base), each=PLAN.control_neutral_each)
    fitted = _permuted(context.seeds["permuted_labels"])
    assert control.matched
    assert control.target_kl == pytest.approx(meter.kl([bias_term()]))
    assert control.kl == pytest.approx(meter.kl(fitted, control.scale), rel=1e-4)


def test_a_fit_that_neutral_text_hardly_feels_is_met_as_it_is(base: LoadedModel) -> None:
    faint = bias_term(size=1e-5)
    context = small_context(base, plan=PERMUTED)
    (control,) = _controls(context, [faint], permuted=lambda seed: [bias_term(1e-5, seed)])
    assert (control.scale, control.target_kl) == (1.0, None)


def test_permuted_labels_that_nothing_can_be_fitted_on_are_left_out(base: LoadedModel) -> None:
    context = small_context(base, plan=PERMUTED)
    assert _controls(context, [bias_term()], permuted=lambda seed: None) == ()


def both(terms: Sequence[Term]) -> PaperMethod:
    """The same terms, whatever the probe."""
    return {"paper": terms, "converged": terms}


def test_the_papers_setting_is_met_at_its_alpha_and_a_converged_probe_at_the_edits_kl(
    base: LoadedModel,
) -> None:
    context = small_context(base)
    found = {control.kind: control for control in _controls(context, [bias_term()])}
    alpha, equal = found["paper_alpha"], found["paper_equal_kl"]
    meter = calibration_meter(EditedModel(base), each=PLAN.control_neutral_each)
    target = meter.kl([bias_term()])
    assert (alpha.probe, equal.probe) == ("paper", "converged")
    assert found["random_direction"].probe is None
    assert alpha.kl == pytest.approx(meter.kl(PAPER["paper"]))
    assert (alpha.scale, alpha.target_kl, alpha.matched) == (1.0, None, False)
    assert equal.target_kl == pytest.approx(target)
    assert equal.matched
    assert equal.kl == pytest.approx(target, rel=0.1)
    assert equal.kl == pytest.approx(meter.kl(PAPER["converged"], equal.scale), rel=1e-4)


def test_a_rival_that_cannot_reach_the_kl_is_marked(base: LoadedModel) -> None:
    """Terms of nothing stay at the base at any scale."""
    found = _controls(small_context(base), [bias_term()], both([gate_term(0.0)]))
    (equal,) = [control for control in found if control.kind == "paper_equal_kl"]
    assert not equal.matched
    assert equal.kl == pytest.approx(0.0, abs=1e-6)
    assert equal.evaluations == 6


def test_a_rival_whose_model_breaks_is_left_out(base: LoadedModel) -> None:
    found = _controls(small_context(base), [bias_term()], both([gate_term(1e38)]))
    assert "paper_alpha" not in [control.kind for control in found]


def test_a_random_direction_meets_all_test_prompts_and_others_fewer(base: LoadedModel) -> None:
    context = small_context(base)
    asked = [prompt.text for prompt in context.prompts]
    arm = context.generate(context.model, asked)
    scorer = prepare_scorers(context.behavior, context.splits, context.seed)[0]
    scores = score_grid(scorer, asked, arm.texts)[:, 0]
    found = {control.kind: control for control in _controls(context, [bias_term()])}
    assert len(scores) == 12
    assert found["random_direction"].effects[0].score.base == pytest.approx(scores.mean())
    assert found["paper_alpha"].effects[0].score.base == pytest.approx(scores[:6].mean())
    assert scores.mean() != scores[:6].mean()


def test_the_edit_is_compared_with_a_rival_on_the_same_prompts(base: LoadedModel) -> None:
    """A rival that is the edit itself differs by nothing, whatever the prompts."""
    edit = [gate_term(0.5)]
    context = small_context(base, method="natural")
    found = _controls(context, edit, both(edit))
    (itself,) = [control for control in found if control.kind == "paper_alpha"]
    assert itself.versus_edit.low == itself.versus_edit.high == 0.0


def test_a_weak_leading_scorer_does_not_compare_the_edit_with_a_rival(base: LoadedModel) -> None:
    context = small_context(base, plan=replace(PLAN, controls=("random_direction",)))
    tfidf, vader = prepare_scorers(context.behavior, context.splits, context.seed)
    # Half of any texts are above the one threshold, none below the other.
    low, high = (
        replace(scorer, info=scorer.info.model_copy(update={"threshold": threshold}), auc=0.9)
        for scorer, threshold in ((tfidf, 0.0), (vader, 0.5))
    )
    weak = replace(low, auc=0.6)
    (by_second,) = _controls(context, [bias_term()], scorers=(weak, high))
    (alone,) = _controls(context, [bias_term()], scorers=(high,))
    (by_first,) = _controls(context, [bias_term()], scorers=(low, high))
    assert by_second.versus_edit == alone.versus_edit
    assert by_first.versus_edit.value == 0.0
    assert alone.versus_edit.value != 0.0


def test_benchmarks_draw_several_rivals_of_which_the_first_is_the_receipts(
    base: LoadedModel,
) -> None:
    plan = replace(PLAN, controls=("random_direction",))
    (single,) = _controls(small_context(base, plan=plan), [bias_term()])
    several = _controls(small_context(base, plan=replace(plan, draws=3)), [bias_term()])
    assert [control.draw for control in several] == [0, 1, 2]
    assert several[0] == single
    assert len({control.scale for control in several}) == 3


def test_an_edit_that_changes_nothing_has_no_rivals(base: LoadedModel) -> None:
    assert _controls(small_context(base), [bias_term(0.0)]) == ()


def test_controls_are_on_top_of_what_the_edit_is_on_top_of(base: LoadedModel) -> None:
    """The paper's setting of nothing is then the model below the edit."""
    below = [([bias_term(seed=5)], 1.0)]
    context = small_context(base, below)
    found = _controls(context, [bias_term()], both([gate_term(0.0)]))
    (alpha,) = [control for control in found if control.kind == "paper_alpha"]
    assert alpha.kl == pytest.approx(0.0, abs=1e-6)
    asked = [prompt.text for prompt in context.prompts[: PLAN.control_prompts]]
    arm = context.generate(EditedModel(base, below), asked)
    scorer = prepare_scorers(context.behavior, context.splits, context.seed)[0]
    scores = score_grid(scorer, asked, arm.texts)
    assert alpha.effects[0].score.edited == pytest.approx(scores.mean())


def test_an_edit_that_neutral_text_hardly_feels_meets_random_directions_of_its_own_norm(
    base: LoadedModel,
) -> None:
    plan = replace(PLAN, controls=ALL_CONTROLS)
    faint = bias_term(size=1e-5)
    found = {one.kind: one for one in _controls(small_context(base, plan=plan), [faint])}
    assert "paper_equal_kl" not in found
    assert found["paper_alpha"].kl > 1e-5
    rival = found["random_direction"]
    assert rival.target_kl is None
    assert rival.kl < 1e-5
    assert rival.scale == 1.0
