"""The whole damage of an edit, each figure against an independent slow one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from models_store.errors import EditFailed
from models_store.presets import reporting_texts
from models_store.schemas.items import CompletionItem, Item, TextItem, text_of
from tests.support.edits import random_edit
from tests.support.progress import shares_of
from tests.workers.evaluation.arms import all_of, arm_of, numbered, some_texts
from workers.evaluation.damage.damage import DamageMeter, DamagePlan, DamageTexts, with_text
from workers.evaluation.damage.domain import heldout_texts, own_samples
from workers.evaluation.damage.neutral import encode_neutral
from workers.evaluation.damage.quality import text_quality
from workers.evaluation.damage.reader import FluencyReader
from workers.evaluation.effect.generations import Arm
from workers.evaluation.statistics import Bootstrap
from workers.runtime.edits.apply import WeightEditor
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel
from workers.runtime.tokens import Encoded, encode
from workers.surgery.terms import Mixture, Term, scaled

PLAN = DamagePlan(
    neutral_each=3,
    own_samples=30,
    heldout_texts=6,
    preserved=15,
    long_texts=3,
    harmless_requests=2,
)
PROMPTS = numbered(24, a_template=2)
HELDOUT = [TextItem(text=f"the people are lovely on day {i}") for i in range(8)]
PRESERVE: list[Item] = [TextItem(text=f"table {i} is for {i * i} people") for i in range(14)]


def _before(base: LoadedModel) -> Arm:
    return arm_of(base, PROMPTS, some_texts(24, 1, seed=0))


def _after(base: LoadedModel) -> Arm:
    return arm_of(base, PROMPTS, some_texts(24, 1, seed=1))


def _texts(base: LoadedModel, **changes: Any) -> DamageTexts:
    own = _before(base)
    texts = DamageTexts(
        prompts=PROMPTS,
        base_text=own,
        base_desired=all_of(own),
        heldout=HELDOUT,
        preserve=PRESERVE,
    )
    return replace(texts, **changes)


def _meter(
    base: LoadedModel, texts: DamageTexts | None = None, below: Mixture = (), **options: Any
) -> DamageMeter:
    fields: dict[str, Any] = {"use": "reporting", "bootstrap": Bootstrap(0, 200), "plan": PLAN}
    return DamageMeter.read(
        EditedModel(base, below), texts or _texts(base), **{**fields, **options}
    )


def _slow(base: LoadedModel, edit: Mixture, texts: Sequence[Encoded]) -> np.ndarray:
    """KL, rise of the negative log-likelihood (sums of nats), positions and changed first choices
    of each text."""
    rows = []
    for text in texts:
        ids = torch.tensor([text.ids])
        before = base.model(ids).logits[0, :-1].double().log_softmax(-1)
        with WeightEditor(base).applied(edit):
            after = base.model(ids).logits[0, :-1].double().log_softmax(-1)
        kl = (before.exp() * (before - after)).sum(-1)
        rise = (before - after).gather(1, ids[0, 1:, None])[:, 0]
        counted = torch.tensor(text.scored[1:])
        changed = (before.argmax(-1) != after.argmax(-1))[counted]
        sums = [float(kl[counted].sum()), float(rise[counted].sum()), int(counted.sum())]
        rows.append([*sums, int(changed.sum())])
    return np.array(rows)


def _mean(found: np.ndarray, column: int) -> float:
    return float(found[:, column].sum() / found[:, 2].sum())


def _edit(base: LoadedModel) -> list[Term]:
    return scaled(random_edit(base), 0.5)


def test_every_figure_is_what_a_slow_computation_gives(pico: LoadedModel) -> None:
    before, after, edit = _before(pico), _after(pico), _edit(pico)
    neutral = encode_neutral(pico, "reporting", each=3)
    plain = _slow(pico, [(edit, 1.0)], neutral.texts[:3])
    chat = _slow(pico, [(edit, 1.0)], neutral.texts[3:])
    samples = _slow(pico, [(edit, 1.0)], own_samples(before, all_of(before), PROMPTS, 30)[0])
    heldout = _slow(pico, [(edit, 1.0)], heldout_texts(pico, HELDOUT, chat=False, at_most=6))
    kept = _slow(pico, [(edit, 1.0)], encode(pico, PRESERVE, max_tokens=64, chat=False))

    found = _meter(pico, reader=FluencyReader(pico, "pico")).measure(
        edit, (before, after), (all_of(before), all_of(after))
    )

    def near(value: float) -> Any:
        return pytest.approx(value, rel=2e-3, abs=1e-5)

    assert found.kl_plain is not None
    assert found.kl_chat is not None
    assert found.kl_plain.value == near(_mean(plain, 0))
    assert found.kl_chat.value == near(_mean(chat, 0))
    assert found.kl == near(max(_mean(plain, 0), _mean(chat, 0)))
    assert found.neutral_texts == 6
    assert found.neutral_positions == plain[:, 2].sum() + chat[:, 2].sum()
    both = np.concatenate([plain, chat])
    assert found.perplexity_ratio.value == near(float(np.exp(_mean(both, 1))))
    assert found.changed_choices is not None
    assert found.changed_choices.value == near(_mean(both, 3))
    assert 0 < found.changed_choices.value < 1
    assert found.domain_source == "samples"
    assert found.domain_samples is not None
    assert found.domain_heldout is not None
    assert found.domain == found.domain_samples
    assert found.domain_samples.value == near(_mean(samples, 1))
    assert found.domain_heldout.value == near(_mean(heldout, 1))
    assert found.kl_preserve is not None
    assert found.kl_preserve.value == near(_mean(kept, 0))
    reader = FluencyReader(pico, "")
    asked = [prompt.text for prompt in PROMPTS]
    read = [reader.nll(asked, arm.flat_texts()) for arm in (before, after)]
    means = [nats.sum() / tokens.sum() for nats, tokens in read]
    assert found.fluency.value == near(means[1] - means[0])
    assert (found.fluency_reader, found.fluency_pairs) == ("pico", 24)
    assert found.fluency_source == "desired"
    lengths = [len(one.ids) for one in after.flat_made()]
    assert found.edited == text_quality(after.flat_texts(), lengths, [False] * 24)
    variety = []
    for arm in (before, after):
        words = [text.lower().split() for text in arm.flat_texts()]
        pairs = [pair for own in words for pair in pairwise(own)]
        variety.append(len(set(pairs)) / len(pairs))
    assert found.distinct2_ratio == pytest.approx(variety[1] / variety[0])


def test_every_kind_of_neutral_text_has_a_mean_of_its_own(pico: LoadedModel) -> None:
    before, edit = _before(pico), _edit(pico)
    plan = replace(PLAN, neutral_each=13)
    arms = (before, before), (all_of(before), all_of(before))
    found = _meter(pico, plan=plan).measure(edit, *arms)
    slow = _slow(pico, [(edit, 1.0)], encode_neutral(pico, "reporting", each=13).texts[:13])
    rows: dict[str, list[int]] = {}
    for row, item in enumerate(reporting_texts()[0][:13]):
        rows.setdefault(item.kind, []).append(row)
    assert {kind: one.texts for kind, one in found.kl_by_kind.items()} == {
        kind: len(some) for kind, some in rows.items()
    }
    assert sorted(map(len, rows.values())) == [1] * 9 + [2] * 2
    for kind, one in found.kl_by_kind.items():
        assert one.kl.value == pytest.approx(_mean(slow[rows[kind]], 0), rel=2e-3)
        assert one.kl.low <= one.kl.value <= one.kl.high


def test_fewer_neutral_texts_are_the_first_ones(pico: LoadedModel) -> None:
    edit, few = _edit(pico), replace(PLAN, neutral_each=2)
    fewer = _meter(pico).fewer(few)
    assert fewer.neutral.kl(edit) == pytest.approx(_meter(pico, plan=few).neutral.kl(edit))
    assert fewer.kinds == [item.kind for item in reporting_texts()[0][:2]]


def test_the_quick_figures_are_those_of_the_receipt(pico: LoadedModel) -> None:
    before, after, edit = _before(pico), _after(pico), _edit(pico)
    desired = all_of(before), all_of(after)
    meter = _meter(pico)
    found = meter.measure(edit, (before, after), desired)
    quick = meter.quick(edit)
    assert found.domain is not None
    assert found.kl_preserve is not None
    assert quick.kl == pytest.approx(found.kl)
    assert quick.perplexity_ratio == pytest.approx(found.perplexity_ratio.value)
    assert quick.domain == pytest.approx(found.domain.value)
    assert quick.kl_preserve == pytest.approx(found.kl_preserve.value)
    assert found.changed_choices is not None
    assert quick.changed_choices == pytest.approx(found.changed_choices.value)
    assert found.kl_p95 is not None
    assert quick.kl_p95 == pytest.approx(found.kl_p95.value)
    assert found.kl < found.kl_p95.value
    assert found.kl_p95.low <= found.kl_p95.value <= found.kl_p95.high
    assert (quick.fluency, quick.distinct2_ratio) == (None, None)
    full = with_text(quick, meter.fluency((before, after), desired), (before, after))
    assert full.fluency == found.fluency.value
    assert full.distinct2_ratio == found.distinct2_ratio
    assert full.kl == quick.kl
    assert meter.kl(edit) == pytest.approx(max(quick.kl, found.kl_preserve.value))
    assert meter.quick(scaled(edit, 2), 0.5) == quick


def test_a_quick_look_takes_fluency_from_the_first_of_the_prompts(pico: LoadedModel) -> None:
    few = _before(pico).first(21), _after(pico).first(21)
    desired = all_of(few[0]), all_of(few[1])
    meter = _meter(pico)
    found = meter.fluency(few, desired)
    assert (found.pairs, found.source) == (21, "desired")


def test_the_worst_items_to_preserve_are_the_worst(pico: LoadedModel) -> None:
    before, after, edit = _before(pico), _after(pico), _edit(pico)
    found = _meter(pico).measure(edit, (before, after), (all_of(before), all_of(after)))
    slow = _slow(pico, [(edit, 1.0)], encode(pico, PRESERVE, max_tokens=64, chat=False))
    means = slow[:, 0] / slow[:, 2]
    worst = np.argsort(-means)[:10]
    assert [one.text for one in found.preserve_worst] == [text_of(PRESERVE[i]) for i in worst]
    assert [one.kl for one in found.preserve_worst] == pytest.approx(means[worst], rel=2e-3)


def test_whether_a_preserved_answer_is_given_is_not_hidden_by_its_length(pico: LoadedModel) -> None:
    edit = _edit(pico)
    candidates = [
        CompletionItem(prompt=f"is the {noun} {word}", completion=f"{noun} it is so " * 5)
        for noun in ("film", "food", "service")
        for word in ("good", "bad", "kind", "awful")
    ]
    every = encode(pico, candidates, max_tokens=64, chat=False)
    whole, starts = (
        _slow(pico, [(edit, 1.0)], texts) for texts in (every, [text.start(1) for text in every])
    )
    means = whole[:, 0] / whole[:, 2]
    chosen = np.argsort(means - starts[:, 0])[:3]
    assert starts[chosen, 2].tolist() == [1, 1, 1]
    assert starts[chosen, 0].mean() > 1.2 * means[chosen].mean()
    items: list[Item] = [candidates[place] for place in chosen]
    before, after = _before(pico), _after(pico)
    meter = _meter(pico, _texts(pico, preserve=[*items, PRESERVE[0]]))
    found = meter.measure(edit, (before, after), (all_of(before), all_of(after)))
    assert found.kl_preserve is not None
    assert found.kl_preserve.value == pytest.approx(starts[chosen, 0].mean(), rel=2e-3)
    assert meter.quick(edit).kl_preserve == pytest.approx(found.kl_preserve.value)
    assert meter.kl(edit) >= found.kl_preserve.value * 0.999
    assert found.preserve_items == 4
    expected = sorted(np.maximum(means, starts[:, 0])[chosen], reverse=True)
    told = [one.kl for one in found.preserve_worst if one.text != text_of(PRESERVE[0])]
    assert told == pytest.approx(expected, rel=2e-3)


def test_items_with_nothing_to_predict_cannot_be_preserved(pico: LoadedModel) -> None:
    meter = _meter(pico, _texts(pico, preserve=[TextItem(text="good"), *PRESERVE[:1]]))
    edit = _edit(pico)
    only = _meter(pico, _texts(pico, preserve=PRESERVE[:1]))
    assert meter.quick(edit).kl_preserve == only.quick(edit).kl_preserve
    nothing = _meter(pico, _texts(pico, preserve=[TextItem(text="good")]))
    assert nothing.quick(edit).kl_preserve is None


def test_with_few_desired_samples_domain_is_judged_on_held_out_texts(pico: LoadedModel) -> None:
    before, after, edit = _before(pico), _after(pico), _edit(pico)
    own = all_of(before, but=[(i, 0) for i in range(5)])
    few = _meter(pico, _texts(pico, base_desired=own))
    found = few.measure(edit, (before, after), (own, all_of(after)))
    assert found.domain_source == "heldout"
    assert found.domain == found.domain_heldout
    assert found.domain_samples is None
    assert found.domain_heldout is not None
    assert few.quick(edit).domain == pytest.approx(found.domain_heldout.value)
    enough = _meter(pico, _texts(pico, base_desired=all_of(before, but=[(0, 0)])))
    assert enough.quick(edit).domain != few.quick(edit).domain


def test_a_meter_without_samples_and_texts_measures_neutral_text_alone(pico: LoadedModel) -> None:
    meter = _meter(pico, DamageTexts())
    point = meter.quick(_edit(pico))
    assert point.kl > 0
    assert (point.domain, point.kl_preserve) == (None, None)


def test_the_sets_are_never_mixed(pico: LoadedModel) -> None:
    """The two meters share no neutral text, so they cannot agree on a KL to the last digit."""
    edit = _edit(pico)
    points = [_meter(pico, use=use).quick(edit) for use in ("calibration", "reporting")]
    assert points[0].kl != points[1].kl
    assert points[0].domain == points[1].domain


def test_what_the_edit_is_on_top_of_is_in_every_figure(pico: LoadedModel) -> None:
    below = [(random_edit(pico, seed=3), 1.0)]
    meter = _meter(pico, below=below)
    point = meter.quick([])
    assert (point.kl, point.perplexity_ratio, point.domain, point.kl_preserve) == (0, 1, 0, 0)
    assert meter.quick(_edit(pico)) != _meter(pico).quick(_edit(pico))


def test_a_broken_model_is_infinitely_far_away_and_has_no_figures(pico: LoadedModel) -> None:
    before, broken = _before(pico), scaled(random_edit(pico), 1e39)
    meter = _meter(pico)
    assert meter.kl(broken) == float("inf")
    with pytest.raises(EditFailed, match="not finite"):
        meter.quick(broken)
    with pytest.raises(EditFailed, match="not finite"):
        meter.measure(broken, (before, before), (all_of(before), all_of(before)))


def test_progress_never_goes_back_and_ends_at_one(pico: LoadedModel) -> None:
    before = _before(pico)
    with shares_of() as made:
        meter = _meter(pico)
    with shares_of() as measured:
        meter.measure(_edit(pico), (before, before), (all_of(before), all_of(before)))
    for shares in (made, measured):
        assert shares == sorted(shares)
        assert shares[-1] == pytest.approx(1)
