"""Rise of the likelihood of desired text, against sums made token by token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from models_store.errors import EditFailed
from models_store.schemas.items import TextItem
from tests.support.edits import random_edit
from tests.workers.evaluation.arms import all_of, arm_of, numbered, some_texts
from workers.evaluation.damage.domain import (
    DomainMeter,
    LikelihoodMeter,
    heldout_texts,
    own_samples,
)
from workers.evaluation.statistics import Bootstrap
from workers.runtime.edits.apply import WeightEditor
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel
from workers.runtime.tokens import Encoded
from workers.surgery.terms import Mixture, Term, scaled

BOOTSTRAP = Bootstrap(0, resamples=500)


def _nats(base: LoadedModel, mixture: Mixture, text: Encoded) -> tuple[float, int]:
    ids = torch.tensor([text.ids])
    with WeightEditor(base).applied(mixture):
        logs = base.model(ids).logits[0].double().log_softmax(-1)
    places = [place for place in range(1, len(text)) if text.scored[place]]
    return -sum(float(logs[place - 1, text.ids[place]]) for place in places), len(places)


def rise(meter: LikelihoodMeter, terms: Sequence[Term], strength: float = 1.0) -> float:
    return meter.mean(meter.rises(terms, strength))


def _slow_rise(
    base: LoadedModel, edit: Mixture, texts: list[Encoded], below: Mixture = ()
) -> float:
    before = [_nats(base, below, text) for text in texts]
    after = [_nats(base, [*below, *edit], text) for text in texts]
    total = sum(nats for nats, _ in after) - sum(nats for nats, _ in before)
    return total / sum(count for _, count in before)


def test_the_rise_is_what_a_slow_sum_over_tokens_gives(pico: LoadedModel) -> None:
    arm = arm_of(pico, numbered(5), some_texts(5, 2, seed=0))
    texts, groups = own_samples(arm, all_of(arm), numbered(5), at_most=100)
    edit = random_edit(pico)
    meter = LikelihoodMeter.read(EditedModel(pico), texts, groups)
    expected = _slow_rise(pico, [(edit, 0.5)], texts)
    assert abs(expected) > 1e-3
    assert rise(meter, edit, 0.5) == pytest.approx(expected, rel=1e-3, abs=1e-5)
    found = meter.interval(edit, BOOTSTRAP, 0.5)
    assert found.value == pytest.approx(rise(meter, edit, 0.5))
    assert found.low < found.value < found.high
    assert rise(meter, []) == 0


def test_an_edit_on_top_is_measured_against_what_it_is_on(pico: LoadedModel) -> None:
    arm = arm_of(pico, numbered(4), some_texts(4, 1, seed=1))
    texts, _ = own_samples(arm, all_of(arm), numbered(4), at_most=100)
    below, edit = [(random_edit(pico, seed=5), 0.5)], random_edit(pico)
    meter = LikelihoodMeter.read(EditedModel(pico, below), texts)
    assert rise(meter, []) == 0
    assert rise(meter, edit) == pytest.approx(
        _slow_rise(pico, [(edit, 1.0)], texts, below), rel=1e-3, abs=1e-5
    )


def test_only_desired_samples_are_read_and_only_what_the_model_wrote_counts(
    pico: LoadedModel,
) -> None:
    prompts = numbered(4, a_template=2)
    arm = arm_of(pico, prompts, [["a day", "good"], ["kind", ""], ["bad", "nice"], ["so", "we"]])
    texts, groups = own_samples(arm, all_of(arm, but=[(2, 0)]), prompts, at_most=100)
    assert list(groups) == [0, 0, 1, 0, 1, 1]
    for text in texts:
        written = pico.tokenizer.decode(
            [i for i, s in zip(text.ids, text.scored, strict=True) if s]
        )
        assert written in {"a day", "good", "kind", "nice", "so", "we"}
        assert "what is day" in pico.tokenizer.decode(list(text.ids))


def test_few_samples_are_taken_from_different_prompts(pico: LoadedModel) -> None:
    prompts = numbered(3)
    arm = arm_of(pico, prompts, some_texts(3, 4, seed=2))
    _, groups = own_samples(arm, all_of(arm), prompts, at_most=3)
    assert list(groups) == [0, 1, 2]


def test_the_models_own_samples_count_and_held_out_texts_stand_beside_them(
    pico: LoadedModel,
) -> None:
    arm = arm_of(pico, numbered(3), some_texts(3, 1, seed=3))
    samples = LikelihoodMeter.read(
        EditedModel(pico), own_samples(arm, all_of(arm), numbered(3), at_most=9)[0]
    )
    heldout = LikelihoodMeter.read(
        EditedModel(pico),
        heldout_texts(pico, [TextItem(text="the people are lovely")], chat=False, at_most=9),
    )
    edit = random_edit(pico)
    both = DomainMeter(samples, heldout)
    found = both.measure(edit, BOOTSTRAP)
    assert found.source == "samples"
    assert found.judged == found.samples == samples.interval(edit, BOOTSTRAP)
    assert found.heldout == heldout.interval(edit, BOOTSTRAP)
    assert both.leading is not None
    assert rise(both.leading, edit) == rise(samples, edit)
    fallen_back = DomainMeter(None, heldout)
    assert fallen_back.measure(edit, BOOTSTRAP).source == "heldout"
    assert fallen_back.measure(edit, BOOTSTRAP).judged == found.heldout
    assert fallen_back.leading is not None
    assert rise(fallen_back.leading, edit) == rise(heldout, edit)
    nothing = DomainMeter(None, None)
    assert nothing.leading is None
    assert nothing.measure(edit, BOOTSTRAP).source is None


def test_held_out_texts_without_anything_to_predict_are_left_out(pico: LoadedModel) -> None:
    items = [TextItem(text="good"), TextItem(text="good food"), TextItem(text="nice day")]
    for at_most, number in ((9, 2), (2, 2), (1, 1)):
        found = heldout_texts(pico, items, chat=False, at_most=at_most)
        assert len(found) == number
        assert all(len(text) > 1 for text in found)


def test_a_model_that_no_longer_computes_fails_with_a_reason(pico: LoadedModel) -> None:
    arm = arm_of(pico, numbered(2), some_texts(2, 1, seed=4))
    meter = LikelihoodMeter.read(
        EditedModel(pico), own_samples(arm, all_of(arm), numbered(2), at_most=9)[0]
    )
    with pytest.raises(EditFailed, match="not finite"):
        rise(meter, scaled(random_edit(pico), 1e39))


def test_samples_of_a_template_widen_the_interval(pico: LoadedModel) -> None:
    """Six copies each of eight samples are eight samples' worth of evidence."""
    texts = [own for own in some_texts(8, 1, seed=5) for _ in range(6)]
    prompts = numbered(48, a_template=6)
    arm = arm_of(pico, prompts, texts)
    encoded, groups = own_samples(arm, all_of(arm), prompts, at_most=100)
    edit = random_edit(pico)
    widths = [
        found.high - found.low
        for found in (
            LikelihoodMeter.read(EditedModel(pico), encoded, of).interval(edit, BOOTSTRAP)
            for of in (None, groups)
        )
    ]
    assert widths[1] > 1.5 * widths[0] > 0
    assert np.isfinite(widths).all()
