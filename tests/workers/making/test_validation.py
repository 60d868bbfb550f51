"""What a search looks at is not what its winner is tested on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from models_store.objects.store import open_store
from models_store.schemas.methods import Limits
from models_store.settings import Settings
from tests.workers.evaluation.contexts import bias_term, small_context
from tests.workers.making.test_tuning import candidate
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.damage.damage import SEARCHED
from workers.evaluation.damage.domain import LikelihoodMeter, heldout_texts
from workers.evaluation.damage.generation_meter import GenerationMeter
from workers.evaluation.damage.neutral import KlMeter, Use, encode_neutral
from workers.evaluation.scorers.prepare import prepare_scorers
from workers.making.cache import Cache
from workers.making.fitting.fitting import Prepared
from workers.making.search.choosing import scaled
from workers.making.search.validation import Validation
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel, load_base
from workers.surgery.methods.bias import Bias
from workers.surgery.terms import Term


@pytest.fixture(scope="module")
def base(pico_folder: Path) -> LoadedModel:
    return load_base(pico_folder, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def context(base: LoadedModel) -> EvaluationContext:
    context = small_context(base)
    scorers = prepare_scorers(context.behavior, context.splits, context.seed)
    return small_context(base, scorers=scorers)


def neutral_kl(base: LoadedModel, use: Use, each: int, terms: list[Term]) -> float:
    return KlMeter.read(EditedModel(base), encode_neutral(base, use, each=each).parts).kl(terms)


def test_a_search_reads_no_text_that_damage_is_reported_on(
    context: EvaluationContext, settings: Settings
) -> None:
    base, terms = context.model.loaded, [bias_term()]
    cache = Cache(open_store(settings), "default", context.model)
    validation = Validation.read(context, cache)
    searched = validation.meter(SEARCHED)
    found = searched.quick(terms)
    each = SEARCHED.neutral_each
    assert found.kl == pytest.approx(neutral_kl(base, "calibration", each, terms))
    assert found.kl != pytest.approx(neutral_kl(base, "reporting", each, terms))
    reported = {text.ids for text in encode_neutral(base, "reporting").texts}
    assert reported.isdisjoint(text.ids for text in searched.neutral.texts)
    # Too few samples are desired: texts are read that no method, but scorers have seen.
    texts = heldout_texts(
        base, context.splits.scorer.desired, chat=False, at_most=SEARCHED.heldout_texts
    )
    meter = LikelihoodMeter.read(context.model, texts)
    assert found.domain == pytest.approx(meter.mean(meter.rises(terms)))
    tested = {prompt.text for prompt in context.splits.test}
    assert validation.prompt_texts
    assert tested.isdisjoint(validation.prompt_texts)
    assert validation.decoding.seed != context.decoding.seed


def test_where_a_behaviour_is_rare_the_same_prompts_are_continued_more_often(
    context: EvaluationContext, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(open_store(settings), "default", context.model)
    monkeypatch.setattr("workers.evaluation.context.validation_prompts._ENOUGH_GENERATIONS", 1)
    plain = Validation.read(context, cache)
    monkeypatch.setattr("workers.making.search.validation.SELDOM", 1.1)
    rare = Validation.read(context, cache)
    assert rare.prompt_texts == plain.prompt_texts
    assert rare.before_scores.shape == (len(rare.prompts), rare.decoding.samples)
    assert rare.decoding.samples > plain.decoding.samples
    assert (rare.before_scores[:, : plain.decoding.samples] == plain.before_scores).all()


def test_a_trial_is_judged_on_long_texts_and_requests_that_nothing_is_reported_on(
    context: EvaluationContext, settings: Settings
) -> None:
    strict = replace(context, limits=Limits(max_loops=1e-6, max_repetition=1e-6))
    validation = Validation.read(strict, Cache(open_store(settings), "default", context.model))
    few = replace(SEARCHED, long_texts=4, harmless_requests=3)
    meter = validation.meter(few)
    entry = validation.entry(candidate(), 1.0, meter.quick(candidate().at(1.0)))
    (entry,) = validation.generate([entry], 2)
    before = validation.trial(entry, meter)
    after = validation.with_generation_figures(before, meter)
    own = GenerationMeter.of(context.model, "calibration", texts=4, requests=3)
    shares = own.measure(after.terms, context.bootstrap)
    assert shares.keys() == {"loops", "repetition", "harmless_refusals"}
    for name, share in shares.items():
        assert getattr(before.damage, name) is None
        assert getattr(after.damage, name) == share.difference.value
    rises = {f"max_{name}" for name, share in shares.items() if share.difference.value > 1e-6}
    assert set(after.exceeded) >= rises & {"max_loops", "max_repetition"}
    assert after.damage.fluency == before.damage.fluency


def test_a_method_alone_is_scaled_on_no_text_that_damage_is_reported_on(
    context: EvaluationContext,
) -> None:
    base, method = context.model.loaded, Bias(layers=(1,))
    limited = small_context(base, limits=Limits(max_kl=0.05))
    made = {method: candidate()}
    prepared = Prepared(made, {}, None, None, None)
    chosen = scaled(limited, method, prepared)
    calibration = neutral_kl(base, "calibration", 44, list(chosen.terms))
    assert chosen.details["calibration"] is not None
    assert cast(dict[str, float], chosen.details["calibration"])["kl"] == pytest.approx(calibration)
    assert calibration == pytest.approx(0.9 * 0.85 * 0.05, rel=0.05)
