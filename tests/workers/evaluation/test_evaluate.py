from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models_store.errors import EditFailed
from models_store.operator.suites import configured_suites
from models_store.schemas.behaviors import reference
from models_store.schemas.items import Prompt, TextItem
from models_store.schemas.methods import Limits
from models_store.schemas.records import EditSettings, WorkRequest
from models_store.schemas.report import Report
from models_store.settings import Settings
from models_store.weights.architectures import GATE, MatrixKey
from models_store.weights.delta import Delta
from tests.support.pico import HIDDEN
from tests.support.progress import shares_of
from tests.workers.evaluation.contexts import PLAN, bias_term, gate_term, small_context
from workers import progress
from workers.evaluation.context.context import NamedSuites, Parent
from workers.evaluation.damage.domain import LikelihoodMeter, heldout_texts
from workers.evaluation.damage.generation_meter import LONG_TOKENS, REFUSAL_TOKENS
from workers.evaluation.damage.limits import judged
from workers.evaluation.damage.long_form import LongPlan
from workers.evaluation.damage.neutral import KlMeter, Use, encode_neutral
from workers.evaluation.damage.reader import FluencyReader
from workers.evaluation.data.splits import Sides
from workers.evaluation.effect.generations import Arm, DecodingSettings, generate_arm
from workers.evaluation.estimate.estimate import Features
from workers.evaluation.evaluate import Evaluation, evaluate
from workers.evaluation.extras.basics import STRUCTURED_TOKENS
from workers.evaluation.receipt import MadeEdit, Spent, build_report
from workers.runtime.edits.deltas import to_delta
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel, load_base
from workers.runtime.tokens import encode_prompt
from workers.surgery.methods.bias import Bias
from workers.surgery.terms import make_term


@pytest.fixture(scope="module")
def base(pico_folder: Path) -> LoadedModel:
    return load_base(pico_folder, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def evaluation(base: LoadedModel) -> Evaluation:
    return evaluate(small_context(base), [bias_term()])


def test_an_evaluation_measures_effect_damage_and_controls(evaluation: Evaluation) -> None:
    assert [effect.scorer for effect in evaluation.effects] == ["tfidf", "vader"]
    assert evaluation.damage.kl > 0
    assert evaluation.damage.kl_chat is not None
    assert evaluation.damage.domain is not None
    assert evaluation.damage.neutral_texts == 6
    assert evaluation.damage.long_texts == evaluation.damage.harmless_requests == 2
    assert None not in judged(evaluation.damage).values()
    assert [control.kind for control in evaluation.controls] == ["random_direction"]
    assert len(evaluation.samples) == 3
    assert evaluation.verdict.underpowered
    assert evaluation.scorers[0].agreement == 1.0
    extras = evaluation.extras
    assert [dose.strength for dose in extras.doses] == [-1.0, 0.25, 0.5, 0.75, 1.0, 1.25]
    assert extras.side_effects[0].name == "length"
    assert extras.selectivity is not None
    assert not extras.long_form
    assert not extras.composition
    assert [suite.name for suite in extras.suites] == ["basics"]


def test_an_undecided_test_goes_on_with_more_samples_of_edit_and_decisive_control(
    base: LoadedModel, evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    undecided = "workers.evaluation.evaluate.more_samples_may_tell"
    monkeypatch.setattr(undecided, lambda verdict, prompts: True)
    again = evaluate(small_context(base), [bias_term()])
    assert (evaluation.verdict.looks, again.verdict.looks) == (1, 2)
    assert (evaluation.decoding["samples"], again.decoding["samples"]) == (1, 3)
    assert "looked at again" in again.verdict.sentence
    for one, three in zip(evaluation.effects, again.effects, strict=True):
        assert one.score.edited != three.score.edited
    assert again.damage == evaluation.damage
    (control,) = again.controls
    assert control.scale == evaluation.controls[0].scale
    texts, samples = 12, 3
    shares = [effect.rate.edited * texts * samples for effect in control.effects]
    assert shares == pytest.approx([round(share) for share in shares])


def test_the_samples_are_what_the_two_models_generate(
    base: LoadedModel, evaluation: Evaluation
) -> None:
    context = small_context(base)
    asked = [prompt.text for prompt in context.prompts]
    for sample in evaluation.samples:
        place = asked.index(sample.prompt)
        for mixture, told in (((), sample.base), ([([bias_term()], 1.0)], sample.edited)):
            prompts = [encode_prompt(base, text, chat=False) for text in asked]
            arm = generate_arm(EditedModel(base, mixture), prompts, context.decoding)
            assert arm.texts[place][0] == told


def test_damage_is_reported_on_texts_that_no_edit_is_chosen_on(
    base: LoadedModel, evaluation: Evaluation
) -> None:
    terms = [bias_term()]

    def kl(use: Use, each: int) -> float:
        return KlMeter.read(EditedModel(base), encode_neutral(base, use, each=each).parts).kl(terms)

    assert evaluation.damage.kl == pytest.approx(kl("reporting", 3))
    assert evaluation.damage.kl != pytest.approx(kl("calibration", 3))
    doses = {dose.strength: dose.damage for dose in evaluation.extras.doses}
    assert doses[1.0].kl == evaluation.damage.kl
    few = encode_neutral(base, "reporting", each=2).parts
    assert doses[0.5].kl == pytest.approx(KlMeter.read(EditedModel(base), few).kl(terms, 0.5))
    assert evaluation.damage.domain_heldout is not None
    heldout = small_context(base).splits.heldout.desired
    texts = heldout_texts(base, heldout, chat=False, at_most=PLAN.damage.heldout_texts)
    meter = LikelihoodMeter.read(EditedModel(base), texts)
    rise = meter.mean(meter.rises(terms))
    assert evaluation.damage.domain_heldout.value == pytest.approx(rise)


def test_an_edit_that_does_nothing_is_found_to_do_nothing(base: LoadedModel) -> None:
    nothing = evaluate(small_context(base), [bias_term(size=0.0)])
    for effect in nothing.effects:
        assert effect.rate.base == effect.rate.edited
        assert effect.score.difference.high == 0
    assert nothing.damage.kl == 0
    assert nothing.damage.perplexity_ratio.value == 1
    assert nothing.damage.fluency.value == 0
    assert nothing.controls == ()
    assert not nothing.verdict.distinguishable


def test_the_same_seed_gives_the_same_figures(base: LoadedModel, evaluation: Evaluation) -> None:
    again = evaluate(small_context(base), [bias_term()])
    assert again.effects == evaluation.effects
    assert again.damage == evaluation.damage
    assert again.controls == evaluation.controls
    assert again.samples == evaluation.samples
    other = evaluate(small_context(base, seed=1), [bias_term()])
    assert other.samples != evaluation.samples


def test_the_weights_are_the_bases_again_afterwards(
    base: LoadedModel, evaluation: Evaluation
) -> None:
    fresh = load_base(base.folder, device="cpu", dtype="float32")
    for name, parameter in base.model.named_parameters():
        assert torch.equal(parameter, fresh.model.get_parameter(name))


def test_edits_below_are_in_both_arms(base: LoadedModel, evaluation: Evaluation) -> None:
    below = [([bias_term(seed=5)], 1.0)]
    stacked = evaluate(small_context(base, below), [bias_term(size=0.0)])
    assert abs(stacked.damage.kl) < 1e-7
    assert [s.base for s in stacked.samples] == [s.edited for s in stacked.samples]
    assert [s.base for s in stacked.samples] != [s.base for s in evaluation.samples]


def test_methods_that_choose_rows_get_both_controls(base: LoadedModel) -> None:
    context = small_context(base, method="model_surgery")
    found = evaluate(context, [gate_term()])
    assert [control.kind for control in found.controls] == ["random_direction", "random_region"]


def test_the_text_of_the_base_may_come_from_elsewhere(
    base: LoadedModel, evaluation: Evaluation
) -> None:
    context = small_context(base)
    asked: list[DecodingSettings] = []

    def kept(prompts: Sequence[Sequence[int]], decoding: DecodingSettings) -> Arm:
        asked.append(decoding)
        return generate_arm(context.model, prompts, decoding)

    again = evaluate(replace(context, base_text=kept), [bias_term()])
    assert asked[0] == context.decoding
    assert [decoding.max_new_tokens for decoding in asked[1:]] == [
        LONG_TOKENS,
        REFUSAL_TOKENS,
        STRUCTURED_TOKENS,
    ]
    assert again.effects == evaluation.effects
    assert again.damage == evaluation.damage
    assert again.verdict == evaluation.verdict


def test_all_that_damage_is_measured_on_reaches_the_receipt(base: LoadedModel) -> None:
    context = small_context(
        base,
        preserve=[TextItem(text=f"the plumber of street {i} works on Monday") for i in range(12)],
        reader=FluencyReader(base, "a reader"),
        limits=Limits(max_kl=1e-6, max_perplexity_ratio=1.0001),
    )
    found = evaluate(context, [bias_term()])
    assert found.damage.kl_preserve is not None
    assert len(found.damage.preserve_worst) == 10
    assert found.damage.fluency_reader == "a reader"
    assert found.verdict.exceeded[0] == "max_kl"
    assert not found.verdict.within_limits


def test_a_thorough_plan_measures_strengths_and_long_text(base: LoadedModel) -> None:
    long = LongPlan(prompts=2, long_tokens=8, turn_tokens=4)
    plan = replace(PLAN, samples=2, dose_prompts=5, long_form=long, controls=())
    found = evaluate(small_context(base, plan=plan), [bias_term()])
    assert all(len(dose.effects) == 2 for dose in found.extras.doses)
    assert [form.kind for form in found.extras.long_form] == ["long", "three_turns"]
    assert found.decoding["samples"] == 2


def test_a_dose_of_one_has_the_effect_of_the_edit(
    base: LoadedModel, evaluation: Evaluation
) -> None:
    """By the mean score, prompt by prompt: the same prompts, random numbers and model."""
    plan = replace(PLAN, dose_prompts=12, controls=())
    found = evaluate(small_context(base, plan=plan), [bias_term()])
    (whole,) = [dose for dose in found.extras.doses if dose.strength == 1.0]
    assert whole.effects == evaluation.effects


def test_an_edit_on_top_of_another_shows_all_combinations(base: LoadedModel) -> None:
    context = small_context(base, [([bias_term(seed=5)], 1.0)])
    parent = Parent(context.behavior, context.splits, seed=0)
    gone = context.behavior.model_copy(update={"scorers": ("no-longer-there", "tfidf")})
    parents = [parent, Parent(gone, context.splits, seed=0)]
    stacked = replace(context, parents=parents)
    found = evaluate(stacked, [bias_term()])
    assert [(one.behavior, one.scorer) for one in found.extras.composition] == [
        ("kinder", "tfidf"),
        ("kinder", "vader"),
    ] * 2


def test_a_suite_that_is_asked_for_is_run(base: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the people of the day are kind " * 40, encoding="utf-8")
    (tmp_path / "suites.toml").write_text('[capability.data]\ntext = "text.txt"\n')
    settings = Settings(data=tmp_path, cache=tmp_path, suites=tmp_path / "suites.toml")
    asked = NamedSuites(("capability",), configured_suites(settings))
    found = evaluate(small_context(base, suites=asked), [bias_term()])
    assert [suite.name for suite in found.extras.suites] == ["basics", "capability"]
    assert "suites" in found.seconds


def test_prompts_of_one_template_are_resampled_together(base: LoadedModel) -> None:
    """With all prompts of one pattern there is a single unit, and nothing to tell it from chance
    with: all is possible."""
    prompts = tuple(
        Prompt(text=f"the people of place {i} are", template="one", split="test") for i in range(12)
    )
    context = small_context(base)
    splits = replace(context.splits, test=prompts)
    found = evaluate(replace(context, splits=splits), [bias_term(1.0)])
    score = found.effects[0].score.difference
    assert (score.low, score.high) == (-1.0, 1.0)
    assert found.verdict.underpowered
    assert found.verdict.smallest_visible == 1.0
    assert "12 test prompts of 1 template, no change can be significant" in found.verdict.sentence


def test_progress_never_goes_back_and_ends_at_one(base: LoadedModel) -> None:
    with shares_of() as shares:
        evaluate(small_context(base), [bias_term()])
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    assert len(shares) > 8


def test_an_exception_of_the_progress_callback_stops_the_evaluation(base: LoadedModel) -> None:
    class Canceled(Exception):
        pass

    def cancel(step: str, share: float) -> None:
        if share > 0.3:
            raise Canceled

    with pytest.raises(Canceled), progress.watch(cancel), progress.step("evaluate"):
        evaluate(small_context(base), [bias_term()])


def test_a_model_that_no_longer_computes_fails_with_a_reason(base: LoadedModel) -> None:
    with pytest.raises(EditFailed, match="not finite"):
        evaluate(small_context(base), [bias_term(size=1e38)])


def test_a_chat_behaviour_passes_through_the_template(base: LoadedModel) -> None:
    plain = small_context(base)
    chat = replace(plain, behavior=plain.behavior.model_copy(update={"chat": True}))
    found = evaluate(chat, [bias_term()])
    assert found.decoding["chat"] is True
    assert [s.base for s in found.samples] != [
        s.base for s in evaluate(plain, [bias_term()]).samples
    ]


def test_edits_of_experts_are_evaluated_in_the_weights(make_pico: Callable[..., Path]) -> None:
    base = load_base(make_pico("mixtral"), device="cpu", dtype="float32")
    term = make_term(MatrixKey(0, GATE, 1), torch.ones(HIDDEN), torch.arange(8), torch.ones(8))
    found = evaluate(small_context(base, method="model_surgery"), [term])
    assert found.damage.kl > 0
    assert len(found.controls) == 2


def test_an_arm_does_not_depend_on_its_batch(base: LoadedModel) -> None:
    prompts = [encode_prompt(base, text, chat=False) for text in ("the day", "we are so", "it is")]
    decoding = DecodingSettings(max_new_tokens=5, seed=3, samples=2)

    def arm(of: list[list[int]]) -> Arm:
        return generate_arm(EditedModel(base), of, decoding)

    assert arm(prompts).texts[0] == arm(prompts[:1]).texts[0]
    assert len({text for own in arm(prompts).texts for text in own}) == 6


def _report(base: LoadedModel, evaluation: Evaluation, body: Any) -> tuple[Report, Delta]:
    context = small_context(base)
    terms = [bias_term()]
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
    made = MadeEdit(
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
    fit, heldout = context.splits.fit, context.splits.heldout
    # The first number says which side a text is on.
    features = Features(fit, heldout, *(_marked(sides) for sides in (fit, heldout)))
    return build_report(request, context, made, evaluation, spent, features), delta


def _marked(sides: Sides) -> torch.Tensor:
    marks = [1.0] * len(sides.undesired) + [0.0] * len(sides.desired)
    return torch.tensor([[mark, 0.5] for mark in marks])


def test_the_receipt_holds_what_it_takes_to_repeat_the_edit(
    base: LoadedModel, evaluation: Evaluation
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
    assert report.separability.probe_auc == 1
    assert "few_texts" in {remark.code for remark in report.warnings}
    term = report.method.terms[0]
    dense = torch.outer(bias_term().coefficients, bias_term().direction)
    assert math.isclose(term.norm, float(dense.norm()), rel_tol=1e-5)
