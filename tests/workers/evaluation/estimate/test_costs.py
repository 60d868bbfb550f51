from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from models_store.presets import load_preset
from models_store.schemas.methods import Effort, Limits
from tests.support.progress import shares_of
from tests.workers.evaluation.contexts import bias_term, gate_term, small_context
from workers.evaluation.context.context import EvaluationContext, Parent
from workers.evaluation.context.plan import ALL_CONTROLS, STANDARD, fewer, plan_for
from workers.evaluation.controls.baselines import PaperMethod
from workers.evaluation.controls.controls import kinds_for
from workers.evaluation.data.splits import split_behavior
from workers.evaluation.estimate.costs import expected_seconds
from workers.evaluation.evaluate import evaluate
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel, load_base
from workers.surgery.terms import Term


@pytest.fixture(scope="module")
def base(pico_folder: Path) -> LoadedModel:
    return load_base(pico_folder, device="cpu", dtype="float32")


def _context(base: LoadedModel, preset: str, effort: Effort) -> EvaluationContext:
    behavior = load_preset(preset)
    return EvaluationContext(
        model=EditedModel(base),
        behavior=behavior,
        splits=split_behavior(behavior, 0),
        method="attribution",
        limits=Limits(),
        seed=0,
        plan=plan_for(effort),
    )


@pytest.mark.parametrize("preset", ["negativity", "toxicity", "formality", "refusal"])
def test_a_quick_evaluation_takes_110_seconds_and_a_standard_one_under_five(
    base: LoadedModel, preset: str
) -> None:
    """By arithmetic, with every control that there is."""
    seconds = {}
    for effort in get_args(Effort):
        context = _context(base, preset, effort)
        seconds[effort] = sum(expected_seconds(context, context.plan.controls).values())
    assert seconds["quick"] < 110
    assert seconds["standard"] < 280
    assert seconds["thorough"] < 15 * 60


def test_a_quick_plan_has_the_control_on_which_success_hangs() -> None:
    assert plan_for("quick").controls == ("random_direction",)
    assert plan_for("thorough").controls == ALL_CONTROLS
    assert {*ALL_CONTROLS} - {*plan_for("standard").controls} == {"paper_alpha"}


@pytest.mark.parametrize("effort", get_args(Effort))
def test_every_effort_measures_damage_on_as_much_as_it_takes(effort: Effort) -> None:
    """64 neutral texts and 4,000 positions at least; fewer than 40 prompts would tell little."""
    plan = plan_for(effort)
    assert 2 * plan.damage.neutral_each >= 64
    assert 2 * plan.damage.neutral_each * 48 >= 4000
    assert plan.prompts_for(256) >= 40


def test_long_answers_are_taken_from_fewer_prompts() -> None:
    assert STANDARD.prompts_for(24) == 200
    assert STANDARD.prompts_for(64) == 100
    assert STANDARD.prompts_for(256) == 60
    assert fewer(60, 16) == fewer(60, 32) == 60
    assert fewer(60, 96) == 20
    assert fewer(60, 10_000) == 1
    assert fewer(0, 96) == 0


def test_every_part_of_an_evaluation_has_its_share_of_the_progress(base: LoadedModel) -> None:
    """Also those that only some edits have."""
    below = [([bias_term(seed=5)], 1.0)]
    context = small_context(base, below)
    parent = Parent(context.behavior, context.splits, 0)
    stacked = replace(context, method="natural", parents=[parent])
    terms = [gate_term()]
    paper: PaperMethod = {"paper": [gate_term(0.3)], "converged": [gate_term(0.2)]}

    def permuted(seed: int) -> list[Term]:
        return [gate_term(0.4)]

    with shares_of() as shares:
        found = evaluate(stacked, terms, paper=paper, permuted=permuted)
    kinds = kinds_for(stacked, terms, paper, permuted)
    assert "permuted_labels" in kinds
    assert set(found.seconds) == set(expected_seconds(stacked, kinds))
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
