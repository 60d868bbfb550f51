"""The scale is found for laws that are nearly, and not at all, a square."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models_store.errors import EditFailed, InvalidRequest
from workers.surgery.calibrate import calibrate


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


def test_no_scale_within_the_target_is_a_failure() -> None:
    with pytest.raises(EditFailed, match="keeps the KL within"):
        calibrate(lambda s: 1.0, 0.1, guess=1.0)


@pytest.mark.parametrize(("target", "guess"), [(0.0, 1.0), (0.1, -1.0), (math.nan, 1.0)])
def test_nonsense_is_refused(target: float, guess: float) -> None:
    with pytest.raises(InvalidRequest, match="must be positive"):
        calibrate(lambda s: s, target, guess=guess)
