"""The scale is found for laws that are nearly, and not at all, a square."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models_store.errors import EditFailed, InvalidRequest
from workers.surgery.calibrate import Calibration, Scales


def calibrate(kl: Callable[[float], float], target: float, **options: Any) -> Calibration:
    scales = Scales(target, **options)
    for scale in scales:
        scales.measured(kl(scale))
    return scales.calibration()


@given(
    true_scale=st.floats(1e-4, 1e3),
    wrongness=st.floats(-2.5, 2.5),
    power=st.floats(1.6, 2.6),
    target=st.floats(0.01, 1.0),
)
def test_a_power_law_is_solved_in_a_few_steps(
    true_scale: float, wrongness: float, power: float, target: float
) -> None:
    def kl(scale: float) -> float:
        return target * (scale / true_scale) ** power

    found = calibrate(kl, target, guess=true_scale * 10**wrongness)
    assert found.reached
    assert found.kl == pytest.approx(target, rel=0.05)
    assert found.kl == kl(found.scale)


@pytest.mark.parametrize("guess", [1e-3, 1.0, 40.0])
@pytest.mark.parametrize(
    "kl",
    [
        lambda s: 8 * math.tanh(s * s / 8),
        lambda s: s * s + s**6,
        lambda s: math.inf if s > 5 else s * s,
        lambda s: max(s * s, 2e-6),
    ],
    ids=["saturating", "exploding", "infinite", "with a noise floor"],
)
def test_other_laws_are_solved_too(kl: Callable[[float], float], guess: float) -> None:
    found = calibrate(kl, 0.1, guess=guess, max_steps=12)
    assert found.reached
    assert found.kl == pytest.approx(0.1, rel=0.05)


def test_a_good_guess_costs_one_measurement() -> None:
    found = calibrate(lambda s: s * s, 0.25, guess=0.5)
    assert found.trace == ((0.5, 0.25),)


def test_the_nearest_scale_below_is_marked_when_steps_run_out() -> None:
    found = calibrate(lambda s: 0.05 if s < 1 else 0.2, 0.1, guess=0.5, max_steps=6)
    assert not found.reached
    assert found.kl == 0.05
    assert len(found.trace) == 6


def test_of_several_scales_below_the_nearest_is_taken_with_its_own_kl() -> None:
    # The KL jumps from 0.08 to 0.3 at 1: no scale gives 0.1.
    def kl(scale: float) -> float:
        return 0.08 * scale**2 if scale < 1 else 0.3

    found = calibrate(kl, 0.1, guess=0.3, max_steps=8)
    assert not found.reached
    assert found.trace[0] == (0.3, pytest.approx(0.0072))
    assert found.kl > 0.05
    assert any(kl < 0.05 for _, kl in found.trace[1:])
    assert found.kl == kl(found.scale)


def test_the_nearest_scale_below_need_not_be_the_last_one() -> None:
    values = iter([0.06, 0.3, 0.02])
    found = calibrate(lambda _: next(values), 0.1, guess=1.0, max_steps=3)
    assert (found.scale, found.kl, found.reached) == (1.0, 0.06, False)


def test_what_meets_the_target_exactly_counts_as_below_it() -> None:
    values = iter([0.2, 0.05, 0.2])
    found = calibrate(lambda s: next(values), 0.05, guess=1.0, tolerance=-1.0, max_steps=3)
    assert (found.kl, found.reached) == (0.05, False)


@pytest.mark.parametrize(
    ("kl", "guess", "scales"),
    [
        # Nothing to draw a line through: an eighth, or eight times as much.
        (lambda s: s * s if s <= 1 else math.inf, 320.0, [320.0, 40.0, 5.0, 0.625]),
        (lambda s: s * s if s >= 0.4 else 0.0, 0.002, [0.002, 0.016, 0.128, 1.024]),
        # A line of slope 2 through the first point, but a step is a factor of eight at most.
        (lambda s: s * s, 0.0625, [0.0625, 0.5]),
        (lambda s: s * s, 0.004, [0.004, 0.032, 0.256, 0.5]),
    ],
)
def test_the_first_steps_are_known(
    kl: Callable[[float], float], guess: float, scales: list[float]
) -> None:
    found = calibrate(kl, 0.25, guess=guess)
    assert [scale for scale, _ in found.trace[: len(scales)]] == pytest.approx(scales)
    assert found.reached


@pytest.mark.parametrize(
    ("figures", "growth", "scales"),
    [
        # The law of the fourth power: after a step of 8 at most, the line through both points.
        ([8, -4], 2.0, [1, -2, -1]),
        # A slope of 16 is taken for 8, one of 1/4 for 1/2.
        ([8, -4.8], 10.0, [0.5, -0.3, 0.3]),
        ([1, 0.875, 0.4375, 0.21875], 2.0, [4, 3.5, 1.75, 0.875, 0.4375]),
        # The two nearest count, and what would leave the interval halves it.
        ([4, -4, 1, 0.5, 0.45], 2.0, [0, -2, -1, -4 / 3, -5 / 3, -11 / 6]),
        ([-4, 4, -1, -0.5, -0.45], 2.0, [0, 2, 1, 4 / 3, 5 / 3, 11 / 6]),
        # Points above alone are no interval, and noise may put them below those within.
        ([0.4, 3, -1], 0.25, [0, -1.6, -0.8, -0.4 / 1.75]),
        ([-0.4, -3, 1], 0.25, [0, 1.6, 0.8, 0.4 / 1.75]),
    ],
)
def test_each_step_is_that_of_the_line_in_powers_of_two(
    figures: list[float], growth: float, scales: list[float]
) -> None:
    """Figures are KLs as a share of the target, scales what they are measured at."""
    values = iter([2.0**figure for figure in figures] + [1.0])
    found = calibrate(lambda _: next(values), 1.0, guess=2.0 ** scales[0], growth=growth)
    assert [math.log2(scale) for scale, _ in found.trace] == pytest.approx(scales)
    assert found.reached


def test_a_kl_that_may_be_rounding_draws_no_line() -> None:
    for least in (7e-6, 1e-5):
        values = iter([least, 0.05, 0.1])
        found = calibrate(lambda _, values=values: next(values), 0.1, guess=1.0)  # type: ignore[misc]
        assert [scale for scale, _ in found.trace] == pytest.approx([1, 8, 8 * 2**0.5])


def test_how_near_and_how_often_by_default() -> None:
    assert calibrate(lambda s: 1.5, 1.0, guess=1.0, tolerance=0.5).reached
    assert calibrate(lambda s: 1.04, 1.0, guess=1.0).reached
    with pytest.raises(EditFailed, match="no scale down to 1"):
        calibrate(lambda s: 1.06, 1.0, guess=1.0, max_steps=1)
    assert len(calibrate(lambda s: 0.05 if s < 1 else 0.2, 0.1, guess=0.5).trace) == 12


def test_the_failure_names_the_least_scale_that_was_tried() -> None:
    values = iter([4.0, 2.0, 1.9, 8.0])
    with pytest.raises(EditFailed) as failed:
        calibrate(lambda s: next(values), 1.0, guess=1.0, max_steps=2)
    assert "no scale down to 0.5 keeps the KL within 1.0" in failed.value.message


def test_no_scale_within_the_target_is_a_failure() -> None:
    with pytest.raises(EditFailed, match="keeps the KL within"):
        calibrate(lambda s: 1.0, 0.1, guess=1.0)


@pytest.mark.parametrize(
    ("target", "guess"),
    [(0.0, 1.0), (0.1, -1.0), (math.nan, 1.0), (math.inf, 1.0), (0.1, math.inf)],
)
def test_nonsense_is_refused(target: float, guess: float) -> None:
    with pytest.raises(InvalidRequest, match="must be positive"):
        calibrate(lambda s: s, target, guess=guess)


def test_the_nearest_scale_may_be_on_either_side_of_the_target() -> None:
    for figures, nearest in (((0.2, 0.06, 0.11), 0.11), ((0.2, 0.09, 0.15), 0.09)):
        scales = Scales(0.1, guess=1.0, tolerance=0.01, max_steps=3)
        for figure, _ in zip(figures, scales, strict=True):
            scales.measured(figure)
        assert scales.nearest() == next(point for point in scales.trace if point[1] == nearest)
