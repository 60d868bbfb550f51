from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models_store.architectures import DOWN, GATE, MatrixKey
from models_store.behaviors import reference
from models_store.delta import Delta
from models_store.errors import EditFailed
from models_store.methods import Bias, Limits
from models_store.records import EditSettings, WorkRequest
from models_store.report import Report
from tests.evaluation.texts import behavior
from tests.pico import HIDDEN, INTERMEDIATE
from workers.evaluation.context import EvaluationContext
from workers.evaluation.damage import DamagePlan
from workers.evaluation.evaluate import Evaluation, evaluate
from workers.evaluation.generations import Arm, Decoding, generate_arm
from workers.evaluation.plan import EvaluationPlan
from workers.evaluation.report import Made, Spent, build_report
from workers.evaluation.splits import split_behavior
from workers.runtime.deltas import to_delta
from workers.runtime.loading import BaseModel, load_base
from workers.runtime.side_path import SidePath
from workers.runtime.tokens import encode_prompt
from workers.surgery.terms import Term, make_term

PLAN = EvaluationPlan(
    test_prompts=12,
    damage=DamagePlan(neutral_each=3),
    dose_damage=DamagePlan(neutral_each=2, own_samples=0, heldout_texts=4),
    controls=("random_direction", "random_region", "paper_alpha", "paper_equal_kl"),
    control_prompts=6,
    control_neutral_each=2,
    resamples=200,
    shown=3,
)


def ignore(share: float) -> None:
    """Progress that nobody watches."""


@pytest.fixture(scope="module")
def base(pico_folder: Path) -> BaseModel:
    return load_base(pico_folder, device="cpu", dtype="float32")


def _context(base: BaseModel, **changes: Any) -> EvaluationContext:
    made = behavior(
        40,
        prompts=[f"the people of place {i} are" for i in range(40)],
        max_new_tokens=6,
        scorers=("tfidf", "vader"),
    )
    fields: dict[str, Any] = {
        "base": base,
        "behavior": made,
        "splits": split_behavior(made, seed=0),
        "method": "bias",
        "limits": Limits(),
        "seed": 0,
        "plan": PLAN,
        **changes,
    }
    return EvaluationContext(**fields)


def _term(size: float = 0.3, seed: int = 0) -> Term:
    generator = torch.Generator().manual_seed(seed)
    return make_term(
        MatrixKey(1, DOWN),
        torch.randn(INTERMEDIATE, generator=generator),
        torch.arange(HIDDEN),
        size * torch.randn(HIDDEN, generator=generator),
    )


@pytest.fixture(scope="module")
def evaluation(base: BaseModel) -> Evaluation:
    return evaluate(_context(base), [_term()], progress=ignore)


def test_an_evaluation_measures_effect_damage_and_controls(evaluation: Evaluation) -> None:
    assert [effect.scorer for effect in evaluation.effects] == ["tfidf", "vader"]
    assert evaluation.damage.kl > 0
    assert evaluation.damage.kl_chat is not None
    assert evaluation.damage.domain is not None
    assert evaluation.damage.neutral_texts == 6
    assert [control.kind for control in evaluation.controls] == ["random_direction"]
    assert len(evaluation.samples) == 3
    assert evaluation.verdict.underpowered
    assert evaluation.scorers[0].agreement == 1.0


def test_the_samples_are_what_the_two_models_generate(
    base: BaseModel, evaluation: Evaluation
) -> None:
    context = _context(base)
    asked = [prompt.text for prompt in context.prompts]
    for sample in evaluation.samples:
        place = asked.index(sample.prompt)
        for mixture, told in (((), sample.base), ([([_term()], 1.0)], sample.edited)):
            arm = generate_arm(
                base,
                [encode_prompt(base, text, chat=False) for text in asked],
                mixture,
                context.decoding,
                side=SidePath(base),
                progress=ignore,
            )
            assert arm.texts[place][0] == told


def test_an_edit_that_does_nothing_is_found_to_do_nothing(base: BaseModel) -> None:
    nothing = evaluate(_context(base), [_term(size=0.0)], progress=ignore)
    for effect in nothing.effects:
        assert effect.rate.base == effect.rate.edited
        assert effect.score.difference.high == 0
    assert nothing.damage.kl == 0
    assert nothing.damage.perplexity_ratio.value == 1
    assert nothing.damage.fluency.value == 0
    assert nothing.controls == ()
    assert not nothing.verdict.distinguishable


def test_the_same_seed_gives_the_same_figures(base: BaseModel, evaluation: Evaluation) -> None:
    again = evaluate(_context(base), [_term()], progress=ignore)
    assert again.effects == evaluation.effects
    assert again.damage == evaluation.damage
    assert again.controls == evaluation.controls
    assert again.samples == evaluation.samples
    other = evaluate(_context(base, seed=1), [_term()], progress=ignore)
    assert other.samples != evaluation.samples


def test_the_weights_are_the_bases_again_afterwards(
    base: BaseModel, evaluation: Evaluation
) -> None:
    fresh = load_base(base.folder, device="cpu", dtype="float32")
    for name, parameter in base.model.named_parameters():
        assert torch.equal(parameter, fresh.model.get_parameter(name))


def test_edits_below_are_in_both_arms(base: BaseModel, evaluation: Evaluation) -> None:
    below = [([_term(seed=5)], 1.0)]
    stacked = evaluate(_context(base, on_top=below), [_term(size=0.0)], progress=ignore)
    assert abs(stacked.damage.kl) < 1e-7
    assert [s.base for s in stacked.samples] == [s.edited for s in stacked.samples]
    assert [s.base for s in stacked.samples] != [s.base for s in evaluation.samples]


def test_methods_that_choose_rows_get_both_controls(base: BaseModel) -> None:
    term = make_term(MatrixKey(0, GATE), torch.ones(HIDDEN), torch.arange(8), torch.ones(8))
    found = evaluate(_context(base, method="model_surgery"), [term], progress=ignore)
    assert [control.kind for control in found.controls] == ["random_direction", "random_region"]


def test_progress_never_goes_back_and_ends_at_one(base: BaseModel) -> None:
    shares: list[float] = []
    evaluate(_context(base), [_term()], progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    assert len(shares) > 8


def test_an_exception_of_the_progress_callback_stops_the_evaluation(base: BaseModel) -> None:
    class Canceled(Exception):
        pass

    def cancel(share: float) -> None:
        if share > 0.3:
            raise Canceled

    with pytest.raises(Canceled):
        evaluate(_context(base), [_term()], progress=cancel)


def test_a_model_that_no_longer_computes_fails_with_a_reason(base: BaseModel) -> None:
    with pytest.raises(EditFailed, match="not finite"):
        evaluate(_context(base), [_term(size=1e38)], progress=ignore)


def test_a_chat_behaviour_passes_through_the_template(base: BaseModel) -> None:
    plain = _context(base)
    chat = replace(plain, behavior=plain.behavior.model_copy(update={"chat": True}))
    found = evaluate(chat, [_term()], progress=ignore)
    assert found.decoding["chat"] is True
    assert [s.base for s in found.samples] != [
        s.base for s in evaluate(plain, [_term()], progress=ignore).samples
    ]


def test_edits_of_experts_are_evaluated_in_the_weights(make_pico: Callable[..., Path]) -> None:
    base = load_base(make_pico("mixtral"), device="cpu", dtype="float32")
    term = make_term(MatrixKey(0, GATE, 1), torch.ones(HIDDEN), torch.arange(8), torch.ones(8))
    found = evaluate(_context(base, method="model_surgery"), [term], progress=ignore)
    assert found.damage.kl > 0
    assert len(found.controls) == 2


def test_an_arm_does_not_depend_on_its_batch(base: BaseModel) -> None:
    prompts = [encode_prompt(base, text, chat=False) for text in ("the day", "we are so", "it is")]
    decoding = Decoding(max_new_tokens=5, seed=3, samples=2)

    def arm(of: list[list[int]]) -> Arm:
        return generate_arm(base, of, (), decoding, side=SidePath(base), progress=ignore)

    assert arm(prompts).texts[0] == arm(prompts[:1]).texts[0]
    assert len({text for own in arm(prompts).texts for text in own}) == 6


def _report(base: BaseModel, evaluation: Evaluation, body: Any) -> tuple[Report, Delta]:
    context = _context(base)
    terms = [_term()]
    delta = to_delta(terms, base.fingerprint, "bias")
    request = WorkRequest(
        id="edit_01KB0000000000000000000000",
        kind="edit",
        tenant="default",
        deadline=2**31,
        body=body,
        settings=EditSettings(method=Bias(), limits=Limits()),
        base_model="pico",
        base_fingerprint=base.fingerprint,
        behavior=reference(context.behavior),
    )
    made = Made(
        terms=terms,
        delta=delta,
        delta_bytes=1234,
        probe=None,
        alpha=None,
        relative_alpha=None,
        details={"scale": 0.5},
    )
    spent = Spent(
        stages={"load": 1.0, "evaluate": 2.0},
        total_seconds=3.5,
        load_seconds=1.0,
        peak_memory_bytes=10**9,
        device_memory_bytes=None,
    )
    return build_report(request, context, made, evaluation, spent), delta


def test_the_receipt_holds_what_it_takes_to_repeat_the_edit(
    base: BaseModel, evaluation: Evaluation
) -> None:
    body = {"base_model": "pico", "behavior": "kinder", "seed": 0}
    report, delta = _report(base, evaluation, body)
    assert Report.model_validate_json(report.model_dump_json()) == report
    assert report.provenance.request == body
    assert report.provenance.terms_sha256 == delta.terms_sha256
    assert report.provenance.base_fingerprint == base.fingerprint
    assert report.provenance.versions["torch"] == torch.__version__
    assert {"split", "sampling", "bootstrap"} <= report.provenance.seeds.keys()
    assert report.cost.evaluation.keys() >= {"base_text", "damage", "doses"}
    assert report.splits.test_prompts > 0
    term = report.method.terms[0]
    dense = torch.outer(_term().coefficients, _term().direction)
    assert math.isclose(term.norm, float(dense.norm()), rel_tol=1e-5)
