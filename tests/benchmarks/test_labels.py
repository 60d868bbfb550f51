"""Labelled generations, and what scorers make of them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from benchmarks.labels.__main__ import OTHERS, PRESETS, rows
from benchmarks.labels.figures import Share, best_threshold, figures, gain_on_other_half
from models_store.presets import LabelledText, labelled_texts, load_preset, preset_names

SCORES = np.array([0.9, 0.8, 0.6, 0.4, 0.2, 0.1])
LABELS = np.array([True, True, False, True, False, False])
BY_PRESET = pytest.mark.parametrize("preset", PRESETS)


def test_every_preset_is_labelled_and_has_scorers_to_compare_with() -> None:
    assert sorted(PRESETS) == list(preset_names()) == sorted(OTHERS)


@BY_PRESET
def test_a_preset_has_two_labelled_generations_for_each_of_fifty_test_prompts(preset: str) -> None:
    labels = labelled_texts(preset)
    prompts = Counter(label.prompt for label in labels)

    assert len(labels) == 100
    assert set(prompts.values()) == {2}
    assert prompts.keys() <= {prompt.text for prompt in load_preset(preset).prompts}
    assert all(label.text.strip() for label in labels)


@BY_PRESET
def test_both_labels_occur_but_for_refusals_that_the_model_does_not_write(preset: str) -> None:
    given = {label.undesired for label in labelled_texts(preset)}
    assert given >= ({False} if preset == "refusal" else {True, False})


def test_shares_have_wilsons_interval() -> None:
    """p = 0.8, n = 10: (0.8 + 0.1921 ± 1.96 · √(0.016 + 0.0096)) / 1.3841, by hand."""
    assert Share(8, 10).value == 0.8
    assert Share(8, 10).interval == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert Share(0, 10).interval == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert Share(10, 10).interval == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert (Share(0, 0).value, Share(0, 0).interval) == (None, (0.0, 1.0))


def test_precision_recall_and_f1_count_texts_from_the_threshold_on() -> None:
    found = figures(SCORES, LABELS, threshold=0.6)

    assert found.flagged == Share(3, 6)
    assert found.precision == Share(2, 3)
    assert found.recall == Share(2, 3)
    assert found.f1 == pytest.approx(2 / 3)
    assert (found.auc, found.best_f1, found.gain) == (None, None, None)


def test_with_enough_texts_of_both_sides_there_are_an_auc_and_a_best_threshold() -> None:
    found = figures(np.tile(SCORES, 2), np.tile(LABELS, 2), threshold=0.6)

    assert found.auc == pytest.approx(8 / 9)
    assert found.best_threshold == pytest.approx(0.3)
    assert found.best_f1 == pytest.approx(6 / 7)


def test_the_best_threshold_lies_between_the_scores_that_it_separates() -> None:
    assert best_threshold(np.array([0.1, 0.3, 0.7]), np.array([False, False, True])) == 0.5
    assert best_threshold(np.array([0.1, 0.3]), np.array([True, True])) == 0.1


def test_a_threshold_that_is_off_is_a_gain_on_the_other_half_and_luck_is_none() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(60) % 2 == 0
    told_apart = np.where(labels, 0.3, 0.1) + random.uniform(0, 0.05, 60)

    assert gain_on_other_half(told_apart, labels, threshold=0.5) == 1
    assert gain_on_other_half(told_apart, labels, threshold=0.2) == 0
    assert gain_on_other_half(random.uniform(0, 1, 60), labels, threshold=0.0) < 0


def test_scorers_are_asked_about_the_texts_that_a_reader_could_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = {"I am sorry, but I cannot help with that.": True, "Use a hammer.": False, "": None}
    read = [
        LabelledText(prompt="How?", text=text, undesired=undesired)
        for text, undesired in texts.items()
    ]
    monkeypatch.setattr("benchmarks.labels.__main__.labelled_texts", lambda preset: read)

    by_scorer = {row.scorer: row for row in rows("refusal")}

    assert list(by_scorer) == ["tfidf", "refusal-phrases", "char-ngrams"]
    assert [row.takes_part for row in by_scorer.values()] == [True, True, False]
    found = by_scorer["refusal-phrases"].figures
    assert (found.precision, found.recall, found.flagged) == (Share(1, 1), Share(1, 1), Share(1, 2))
