"""What is said of a behaviour before an edit is made of it."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from models_store.errors import EditFailed
from models_store.schemas.behaviors import Behavior
from models_store.schemas.items import TextItem
from tests.workers.evaluation.texts import behavior, sentences
from workers.evaluation.context.plan import plan_for
from workers.evaluation.data.splits import Sides, Splits, split_behavior
from workers.evaluation.estimate.estimate import (
    Checks,
    Features,
    checks,
    probe_margins,
    smallest_effect,
)
from workers.evaluation.estimate.separability import separability

PROMPTS = [f"prompt number {number} asks something" for number in range(400)]


def checked(asked: Behavior, features: Features | None = None) -> Checks:
    splits = split_behavior(asked, 0)
    return checks(asked, splits, features, seed=0, plan=plan_for("standard"))


def codes(found: Checks) -> set[str]:
    return {remark.code for remark in found.warnings}


def features_of(splits: Splits, gap: float) -> Features:
    """Gaussian features of all texts; the sides lie `gap` apart in one dimension."""
    generator = torch.Generator().manual_seed(0)

    def drawn(undesired: int, desired: int) -> torch.Tensor:
        values = torch.randn(undesired + desired, 16, generator=generator)
        values[:undesired, 3] += gap
        return values

    fit, heldout = splits.fit, splits.heldout
    return Features(
        fit,
        heldout,
        drawn(len(fit.undesired), len(fit.desired)),
        drawn(len(heldout.undesired), len(heldout.desired)),
    )


def test_good_texts_and_many_prompts_leave_nothing_to_remark() -> None:
    asked = behavior(150, prompts=PROMPTS)
    found = checked(asked, features_of(split_behavior(asked, 0), gap=6.0))

    assert found.warnings == ()
    assert found.separability.probe_auc == pytest.approx(1.0, abs=0.02)
    assert found.separability.words_auc > 0.95
    assert found.separability.note is None


def test_without_features_there_is_no_probe() -> None:
    assert checked(behavior(150, prompts=PROMPTS)).separability.probe_auc is None


def test_sides_of_very_different_size_are_remarked_on_the_small_one() -> None:
    asked = behavior(120, undesired=sentences("cruel", 480), prompts=PROMPTS)
    remarks = {remark.code: remark for remark in checked(asked).warnings}

    assert remarks["one_sided"].pointer == "/behavior/desired"
    assert "120 desired texts against 480 undesired" in remarks["one_sided"].detail


def test_few_texts_and_few_prompts_are_remarked_with_what_they_can_show() -> None:
    found = checked(behavior(40, prompts=PROMPTS[:30]))
    remarks = {remark.code: remark for remark in found.warnings}

    assert {"few_texts", "underpowered"} <= remarks.keys()
    # A fifth of 30 prompts validates.
    assert "24 test prompts" in remarks["underpowered"].detail
    assert "47 points" in remarks["underpowered"].detail
    assert found.smallest_effect == pytest.approx(0.47, abs=0.005)
    assert checked(behavior(150, prompts=PROMPTS[:5])).smallest_effect == 1
    assert "few_prompts" in codes(checked(behavior(150, prompts=PROMPTS[:90])))


def test_prompts_of_few_templates_are_remarked_however_many_they_are() -> None:
    def remarks(templates: int) -> dict[str, str]:
        prompts = [
            {"text": text, "template": f"t{number % templates}", "split": "test"}
            for number, text in enumerate(PROMPTS)
        ]
        found = checked(behavior(150, prompts=prompts))
        return {remark.code: remark.detail for remark in found.warnings}

    few = remarks(7)
    assert "200 test prompts of 7 templates" in few["few_templates"]
    assert "no change can be significant" in few["few_templates"]
    assert "underpowered" in few
    assert "few_templates" not in remarks(8)
    assert "200 test prompts of 8 templates" in remarks(8)["underpowered"]
    assert not {"few_templates", "underpowered"} & remarks(40).keys()


def test_prompts_made_from_texts_and_prompts_that_repeat_one_are_remarked() -> None:
    long = " ".join(f"word{number}" for number in range(20))
    # The largest group of texts is fitted on.
    group = [{"text": text, "pair_id": "fitted"} for text in (long, "twin")]
    texts = [*sentences("cruel", 148), *group]
    found = checked(behavior(150, undesired=texts, prompts=[*PROMPTS, long.upper(), f"so {long}"]))
    (remark,) = found.warnings

    assert "no_prompts" in codes(checked(behavior(150)))
    assert remark.code == "prompts_dropped"
    assert "2 (1 word for word, 1 nearly)" in remark.detail


def test_length_that_explains_everything_is_said_so() -> None:
    rng = random.Random(0)
    words = [f"word{number}" for number in range(15)]

    def texts(length: int) -> list[str]:
        return [" ".join(rng.choices(words, k=length)) for _ in range(120)]

    asked = Behavior.model_validate(
        {"name": "short", "undesired": texts(14), "desired": texts(7), "prompts": PROMPTS}
    )

    found = checked(asked)

    assert "length_alone" in codes(found)
    assert found.separability.length_auc > 0.95
    assert "Length alone" in (found.separability.note or "")


def test_length_that_tells_by_chance_alone_does_not_count() -> None:
    """Held-out texts whose lengths happen to order the other way than those of the fit texts."""
    fit, heldout = (
        Sides(
            undesired=tuple(TextItem(text="word " * (length + 1)) for length in lengths),
            desired=tuple(TextItem(text="word " * (7 - length)) for length in lengths),
        )
        for lengths in ((4, 5, 6), (0, 1))
    )
    splits = replace(split_behavior(behavior(40), 0), fit=fit, heldout=heldout)
    assert separability(splits, 0).length_auc == 0.0


def test_sides_that_nothing_tells_apart_are_remarked() -> None:
    same = sentences("kind", 240)
    asked = behavior(120, undesired=same[:120], desired=same[120:], prompts=PROMPTS)
    found = checked(asked, features_of(split_behavior(asked, 0), gap=0.0))

    assert "not_separable" in codes(found)


def test_sides_that_the_model_does_not_see_are_remarked() -> None:
    asked = behavior(150, prompts=PROMPTS)
    found = checked(asked, features_of(split_behavior(asked, 0), gap=0.0))

    assert codes(found) == {"not_seen_by_the_model"}
    assert "hardly separate" in (found.separability.note or "")


def test_sides_that_repeat_each_other_are_remarked() -> None:
    texts = sentences("kind", 120)
    asked = behavior(
        120,
        undesired=[{"text": f"{text} not", "pair_id": str(i)} for i, text in enumerate(texts)],
        desired=[{"text": text, "pair_id": str(i)} for i, text in enumerate(texts)],
        prompts=PROMPTS,
    )

    found = checked(asked)

    assert {"near_identical_sets", "near_duplicates"} <= codes(found)
    assert found.duplicates >= 120


def test_the_probe_learns_what_there_is_and_no_more() -> None:
    generator = torch.Generator().manual_seed(1)
    labels = [1, 0] * 60
    read = torch.randn(120, 64, generator=generator)
    seen = read.clone()
    seen[::2, 5] += 5.0

    margins = probe_margins(seen[:80], labels[:80], seen[80:])
    chance = probe_margins(read[:80], labels[:80], read[80:])

    assert roc_auc_score(labels[80:], margins) > 0.9
    assert 0.2 < roc_auc_score(labels[80:], chance) < 0.8
    assert margins.dtype == np.float64
    with pytest.raises(EditFailed, match="not finite"):
        probe_margins(seen[:80] * torch.inf, labels[:80], seen[80:])


@pytest.mark.parametrize("prompts", [24, 40, 200])
def test_the_smallest_effect_is_mostly_seen(prompts: int) -> None:
    rng = np.random.default_rng(prompts)
    change = smallest_effect(prompts)
    low, high = 0.5 - change / 2, 0.5 + change / 2
    seen = 0
    for _ in range(400):
        difference = (rng.random(prompts) < high) * 1.0 - (rng.random(prompts) < low) * 1.0
        error = difference.std(ddof=1) / prompts**0.5
        seen += difference.mean() - 1.96 * error > 0

    assert 0.72 < seen / 400 < 0.95


def test_every_remark_points_into_the_body() -> None:
    pointers: dict[str, Any] = behavior(40).model_dump()
    for remark in checked(behavior(40)).warnings:
        assert remark.pointer.removeprefix("/behavior/") in pointers
