"""Long texts that loop and harmless requests that are refused, base against edit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
import torch

from models_store.presets import load_preset
from models_store.weights.architectures import DOWN, MatrixKey
from tests.support.pico import HIDDEN, INTERMEDIATE
from workers.evaluation.damage import generation_meter
from workers.evaluation.damage.generation_meter import (
    GenerationMeter,
    harmless_requests,
    long_texts,
)
from workers.evaluation.damage.neutral import Use
from workers.evaluation.effect.generations import Arm, DecodingSettings, arm_of, generate_arm
from workers.evaluation.statistics import Bootstrap
from workers.runtime.decoding.decode import Generated
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import Term, make_term

BOOTSTRAP = Bootstrap(0, 200)


def _edit(size: float = 0.3) -> list[Term]:
    generator = torch.Generator().manual_seed(0)
    inputs, outputs = (torch.randn(size, generator=generator) for size in (INTERMEDIATE, HIDDEN))
    return [make_term(MatrixKey(1, DOWN), inputs, torch.arange(HIDDEN), size * outputs)]


def _meter(base: LoadedModel, use: Use = "reporting", texts: int = 5) -> GenerationMeter:
    return GenerationMeter.of(EditedModel(base), use, texts=texts, requests=4)


def _saying(base: LoadedModel, texts: Sequence[str]) -> Callable[..., Arm]:
    """Writes the texts in turn, whatever is asked."""

    def generate(prompts: Sequence[Sequence[int]], decoding: DecodingSettings) -> Arm:
        ids = [base.tokenizer(text)["input_ids"] for text in texts]
        made = [[Generated(tuple(ids[i % len(ids)]), "stop")] for i in range(len(prompts))]
        return arm_of(base, prompts, made)

    return generate


def _repeats(text: str) -> float:
    pairs = list(pairwise(text.lower().split()))
    return 1 - len(set(pairs)) / len(pairs)


def test_shares_are_those_of_the_texts_of_both_models(
    pico: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ["I'm sorry, but I can't help you", "the food was good and the food was good"]
    after = ["no no no no no no no no", "as an AI I will not do that", "the day is nice today"]
    monkeypatch.setattr(
        generation_meter, "generate_arm", lambda model, *asked: _saying(pico, after)(*asked)
    )
    meter = GenerationMeter.of(
        EditedModel(pico), "reporting", texts=6, requests=6, base_text=_saying(pico, before)
    )
    found = meter.measure(_edit(), BOOTSTRAP)
    assert (found["loops"].base, found["loops"].edited) == (0, pytest.approx(1 / 3))
    assert found["repetition"].base == pytest.approx(sum(map(_repeats, before)) / 2)
    assert found["repetition"].edited == pytest.approx(sum(map(_repeats, after)) / 3)
    refusals = found["harmless_refusals"]
    assert (refusals.base, refusals.edited) == (0.5, pytest.approx(1 / 3))
    assert refusals.difference.value == pytest.approx(-1 / 6)
    assert meter.number("loops") == meter.number("harmless_refusals") == 6


def test_both_models_write_what_they_generate(pico: LoadedModel) -> None:
    edit, asked = _edit(3.0), long_texts(pico, "reporting", 5)
    found = _meter(pico).measure(edit, BOOTSTRAP)["repetition"]
    counted = asked.counts["repetition"]
    for model, share in (
        (EditedModel(pico), found.base),
        (EditedModel(pico).plus(edit), found.edited),
    ):
        texts = generate_arm(model, asked.ids, asked.decoding).flat_texts()
        assert share == pytest.approx(sum(map(counted, texts)) / len(texts))
    assert found.base != found.edited


def test_an_edit_that_does_nothing_changes_no_share(pico: LoadedModel) -> None:
    for of in _meter(pico).measure(_edit(0.0), BOOTSTRAP).values():
        assert of.difference.low == of.difference.high == 0


def test_what_the_base_writes_comes_from_where_it_is_kept(pico: LoadedModel) -> None:
    written = []

    def base_text(prompts: Sequence[Sequence[int]], decoding: DecodingSettings) -> Arm:
        written.append(decoding)
        return generate_arm(EditedModel(pico), prompts, decoding)

    meter = GenerationMeter.of(
        EditedModel(pico), "reporting", texts=2, requests=2, base_text=base_text
    )
    assert not written
    meter.measure(_edit(), BOOTSTRAP)
    assert [decoding.max_new_tokens for decoding in written] == [128, 32]


def test_a_model_without_a_template_is_asked_for_nothing(
    load_pico: Callable[..., LoadedModel],
) -> None:
    bare = load_pico(chat=False)
    meter = _meter(bare)
    assert meter.number("harmless_refusals") == 0
    assert meter.measure(_edit(), BOOTSTRAP).keys() == {"loops", "repetition"}


def test_half_of_the_long_texts_are_answers(pico: LoadedModel) -> None:
    begun = [pico.tokenizer.decode(ids) for ids in long_texts(pico, "reporting", 5).ids]
    assert ["assistant" in text for text in begun] == [False, True, False, True, False]


@pytest.mark.parametrize("prompts", [long_texts, harmless_requests])
def test_a_search_and_a_receipt_have_prompts_of_their_own(
    pico: LoadedModel, prompts: Callable[[LoadedModel, Use, int], generation_meter.PromptSet]
) -> None:
    chosen, reported = (prompts(pico, use, 30) for use in ("calibration", "reporting"))
    assert not set(map(tuple, chosen.ids)) & set(map(tuple, reported.ids))


def test_requests_are_of_many_templates(pico: LoadedModel) -> None:
    there = {one.template for one in load_preset("refusal").prompts if one.split == "test"}
    asked = harmless_requests(pico, "reporting", 32)
    assert len(asked.ids) == 32
    assert asked.groups is not None
    assert len(set(asked.groups)) > len(there) / 3
