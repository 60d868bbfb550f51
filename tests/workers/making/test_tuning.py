"""Scales that use up what may be used up, and no more."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from models_store.schemas.items import TextItem
from models_store.schemas.measurements import Contrast, Effect, Interval, PointDamage
from models_store.schemas.methods import Limits
from models_store.weights.architectures import DOWN, MatrixKey
from tests.support.pico import HIDDEN, INTERMEDIATE
from tests.support.progress import shares_of
from workers.evaluation.damage.damage import DamageMeter, DamagePlan, DamageTexts
from workers.evaluation.damage.limits import judged
from workers.evaluation.effect.generations import Arm
from workers.evaluation.statistics import Bootstrap
from workers.making.search.tuning import at_limit, calibrated, fitted_to_limits, used
from workers.making.search.validation import Trial
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel, load_base
from workers.surgery.fitted import FittedEdit
from workers.surgery.terms import make_term

PLAN = DamagePlan(neutral_each=3, own_samples=4, heldout_texts=4, preserved=2, fluency_pairs=4)


@pytest.fixture(scope="module")
def meter(pico_folder: Path) -> DamageMeter:
    base: LoadedModel = load_base(pico_folder, device="cpu", dtype="float32")
    desired = [TextItem(text=text) for text in ("the food was good", "the people are kind")]
    texts = DamageTexts(heldout=desired)
    return DamageMeter.read(
        EditedModel(base), texts, use="calibration", bootstrap=Bootstrap(0, 100), plan=PLAN
    )


def candidate(guess: float = 1.0, felt_kl: float = 0.0) -> FittedEdit:
    generator = torch.Generator().manual_seed(0)
    term = make_term(
        MatrixKey(1, DOWN),
        torch.randn(INTERMEDIATE, generator=generator),
        torch.arange(HIDDEN),
        torch.randn(HIDDEN, generator=generator),
    )
    return FittedEdit("bias", "bias", [term], guess, details={}, felt_kl=felt_kl)


def damage(**changes: float | None) -> PointDamage:
    figures: dict[str, float | None] = {
        "kl": 0.05,
        "perplexity_ratio": 1.0,
        "domain": None,
        "fluency": None,
        "distinct2_ratio": 1.0,
    }
    return PointDamage.model_validate(figures | changes)


def trial(
    high: float = -0.1,
    *,
    score: float = -0.1,
    unsure: float = 0.0,
    kl: float = 0.05,
    exceeded: tuple[str, ...] = (),
) -> Trial:
    """One whose rate falls by 0.1 more than its bound says, and whose score by `unsure` more."""
    rate = Interval(value=high - 0.1, low=high - 0.2, high=high)
    mean = Interval(value=score - unsure, low=score - 2 * unsure, high=score)
    effect = Effect(
        scorer="tfidf",
        rate=Contrast(base=0.5, edited=0.5 + rate.value, difference=rate),
        score=Contrast(base=0.5, edited=0.5 + mean.value, difference=mean),
    )
    return Trial(
        candidate=candidate(),
        scale=1.0,
        prompts=10,
        effect=effect,
        damage=damage(kl=kl),
        exceeded=exceeded,
        arm=Arm((), (), ()),
    )


def test_the_limit_that_is_used_up_most_counts() -> None:
    limits = Limits(max_kl=0.1, max_perplexity_ratio=1.21, max_domain=0.4, max_fluency=0.2)
    # Of the KL there is room for 0.085 on these texts.
    assert used(limits, damage()) == pytest.approx(0.5 / 0.85)
    assert used(limits, damage(perplexity_ratio=1.1)) == pytest.approx(0.5 / 0.85)
    assert used(limits, damage(perplexity_ratio=1.1**1.5)) == pytest.approx(0.75)
    assert used(limits, damage(domain=0.8, fluency=0.1)) == pytest.approx(2.0)
    assert used(limits, damage(fluency=0.15)) == pytest.approx(0.75)
    assert used(limits, damage(kl_preserve=0.3)) == pytest.approx(3 / 0.85)
    assert used(limits, damage(kl_p95=limits.max_kl_p95)) == pytest.approx(1 / 0.85)
    assert used(limits, damage(changed_choices=0.2)) == pytest.approx(0.2 / 0.25)
    assert used(limits, damage(loops=0.3, repetition=-1.0)) == pytest.approx(2.0)


@pytest.mark.parametrize("guess", [0.01, 1.0, 50.0])
def test_a_scale_is_found_from_any_guess(meter: DamageMeter, guess: float) -> None:
    limits = Limits(max_kl=0.05)
    with shares_of() as shares:
        found = calibrated(meter, candidate(guess), limits)
        assert shares[-1] < 1
    assert found.reached
    assert meter.kl(candidate().at(found.scale)) == pytest.approx(0.9 * 0.85 * 0.05, rel=0.06)
    assert shares == sorted(shares)


def test_the_scale_goes_down_until_the_tightest_limit_holds(meter: DamageMeter) -> None:
    wide = Limits(max_kl=1.0, max_perplexity_ratio=100, max_domain=10)
    free, at_free = fitted_to_limits(
        meter, candidate(), wide, guess=1.0, target=0.9, tolerance=0.05, max_steps=12
    )
    assert used(wide, at_free) == pytest.approx(0.9, rel=0.06)
    assert at_free.domain is not None
    tight = wide.model_copy(update={"max_domain": at_free.domain / 3})
    held, at_held = fitted_to_limits(
        meter, candidate(), tight, guess=free, target=0.9, tolerance=0.05, max_steps=12
    )
    assert held < free
    assert used(tight, at_held) <= 0.95
    figures = judged(at_held)
    assert figures["max_domain"] == pytest.approx(0.9 * tight.max_domain, rel=0.06)


def test_a_smaller_scale_follows_from_how_damage_grows() -> None:
    assert at_limit(2.0, 0.9) == pytest.approx(2.0)
    assert at_limit(1.0, 1.8) == pytest.approx(math.pow(0.5, 1 / 1.5))


def test_the_bound_of_the_score_ranks_then_the_rate_then_less_kl() -> None:
    best = trial(score=-0.2)
    assert best.rank > trial(score=-0.1).rank
    assert trial(high=-0.3).rank > trial(high=-0.1).rank
    assert trial(kl=0.03).rank > trial(kl=0.05).rank
    # Each only where those before it are equal.
    assert trial(score=-0.2, high=0.0, kl=9.0).rank > trial(score=-0.1, high=-1.0, kl=0.0).rank


def test_a_small_sure_fall_ranks_before_a_large_unsure_one() -> None:
    sure, unsure = trial(score=-0.2, unsure=0.01), trial(score=-0.05, unsure=0.3)
    assert sure.effect.score.edited > unsure.effect.score.edited
    assert sure.rank > unsure.rank
    # Of the rates too, where the bounds of the scores are equal.
    assert trial(high=-0.2).rank > trial(high=-0.15).rank
    assert trial(high=-0.2).gain_low == 0.2


def test_what_exceeds_a_limit_or_surely_adds_undesired_text_cannot_be_chosen() -> None:
    assert trial(high=0.05).eligible  # on average it gains
    assert trial(high=0.15).eligible  # it may gain
    assert not trial(high=0.25).eligible
    assert not trial(exceeded=("max_domain",)).eligible
    assert trial(high=0.1, score=-0.01).eligible
    # The rates are equal, and the mean score is surely higher.
    assert not trial(high=0.1, score=0.01).eligible


def test_what_is_felt_elsewhere_limits_the_scale_too(meter: DamageMeter) -> None:
    limits = Limits(max_kl=0.1)
    free = calibrated(meter, candidate(), limits).scale
    held = candidate(felt_kl=0.0765 / (0.3 * free) ** 2)
    assert calibrated(meter, held, limits).scale == pytest.approx(0.3 * free, rel=0.05)
    fitted, damage = fitted_to_limits(
        meter, held, limits, guess=free, target=0.9, tolerance=0.05, max_steps=12
    )
    assert fitted == pytest.approx(0.3 * free, rel=0.05)
    assert damage.kl < 0.05
