from __future__ import annotations

from typing import Any

from models_store.report import Control, Interval, Verdict
from tests.app.sample_report import effect, sample_report
from workers.evaluation.verdict import verdict

SAMPLE = sample_report()


def _verdict(**changes: Any) -> Verdict:
    settings: dict[str, Any] = {
        "effects": SAMPLE.effects,
        "scorers": SAMPLE.scorers,
        "damage": SAMPLE.damage,
        "controls": SAMPLE.controls,
        "max_kl": 0.1,
        "prompts": 120,
        "visible": 0.13,
        **changes,
    }
    return verdict(**settings)


def test_a_success_is_told_with_its_figures() -> None:
    found = _verdict()
    assert found.sentence == (
        "Undesired text falls from 52 % to 25 % of generations by tfidf (-27 points, 95 % interval "
        "-35 to -19), confirmed by vader (17 % to 2.5 %, -15 points, 95 % interval -20 to -9); the "
        "cost is a KL of 0.096 nats a token on neutral text and 1.10 times its perplexity."
    )
    assert found.distinguishable
    assert found.within_limits
    assert not found.underpowered


def test_one_scorer_alone_does_not_make_an_effect() -> None:
    found = _verdict(effects=(effect("tfidf", 0.5, 0.2), effect("vader", 0.2, 0.18)))
    assert not found.distinguishable
    assert "not confirmed by vader" in found.sentence


def test_no_effect_is_called_none() -> None:
    found = _verdict(effects=(effect("tfidf", 0.5, 0.47), effect("vader", 0.3, 0.2)))
    assert found.sentence.startswith("No change can be told from chance")
    assert "though vader" in found.sentence
    assert not found.distinguishable


def test_the_opposite_effect_is_told_as_such() -> None:
    found = _verdict(effects=(effect("tfidf", 0.5, 0.7), effect("vader", 0.2, 0.4)))
    assert "rises" in found.sentence
    assert "opposite" in found.sentence
    assert not found.distinguishable


def test_a_broken_limit_is_in_the_sentence() -> None:
    found = _verdict(max_kl=0.05)
    assert not found.within_limits
    assert "above the limit of 0.05" in found.sentence


def test_few_prompts_make_an_edit_underpowered() -> None:
    found = _verdict(prompts=39, visible=0.22)
    assert found.underpowered
    assert "with 39 test prompts, a change of less than 22 points" in found.sentence
    assert not _verdict(prompts=40).underpowered


def test_a_scorer_that_knows_little_is_named_and_proves_nothing_alone() -> None:
    weak = tuple(card.model_copy(update={"auc": 0.6, "headline": False}) for card in SAMPLE.scorers)
    found = _verdict(scorers=weak)
    assert "tfidf (AUC 0.60), vader (AUC 0.60)" in found.sentence
    assert not found.distinguishable
    assert _verdict(scorers=(weak[0], SAMPLE.scorers[1])).distinguishable


def test_a_control_that_does_as_much_is_told() -> None:
    control: Control = SAMPLE.controls[0].model_copy(
        update={"versus_edit": Interval(value=-0.05, low=-0.2, high=0.1)}
    )
    assert "a random direction of the same size does about as much" in (
        _verdict(controls=(control,)).sentence
    )
    assert "random direction" not in _verdict().sentence
