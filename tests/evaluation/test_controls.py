from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models_store.architectures import DOWN, GATE, MatrixKey
from tests.pico import HIDDEN, INTERMEDIATE
from workers.evaluation.controls import (
    kinds_for,
    make_rival,
    random_input_directions,
    random_output_directions,
    random_region,
)
from workers.runtime.loading import BaseModel, load_base
from workers.surgery.terms import Term, make_term

BOTH = ("random_direction", "random_region")


@pytest.fixture(scope="module")
def base(pico_folder: Path) -> BaseModel:
    return load_base(pico_folder, device="cpu", dtype="float32")


def _surgery_terms() -> list[Term]:
    """Two gates that share a direction, as `model_surgery` makes them."""
    generator = torch.Generator().manual_seed(7)
    direction = torch.randn(HIDDEN, generator=generator)
    return [
        make_term(MatrixKey(layer, GATE), direction, torch.arange(layer, layer + 5), torch.ones(5))
        for layer in (0, 1)
    ]


def _bias_terms() -> list[Term]:
    generator = torch.Generator().manual_seed(8)
    return [
        make_term(
            MatrixKey(layer, DOWN),
            torch.randn(INTERMEDIATE, generator=generator),
            torch.arange(HIDDEN),
            torch.randn(HIDDEN, generator=generator),
        )
        for layer in (0, 1)
    ]


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_shared_direction_is_replaced_by_one_of_the_same_norm() -> None:
    terms = _surgery_terms()
    drawn = random_input_directions(terms, _generator())
    assert torch.equal(drawn[0].direction, drawn[1].direction)
    assert float(drawn[0].direction.norm()) == pytest.approx(float(terms[0].direction.norm()))
    cosine = torch.cosine_similarity(drawn[0].direction, terms[0].direction, dim=0)
    assert abs(float(cosine)) < 0.7
    for old, new in zip(terms, drawn, strict=True):
        assert torch.equal(old.rows, new.rows)
        assert torch.equal(old.coefficients, new.coefficients)


def test_outputs_are_replaced_each_by_its_own_of_the_same_norm() -> None:
    terms = _bias_terms()
    drawn = random_output_directions(terms, _generator())
    for old, new in zip(terms, drawn, strict=True):
        assert torch.equal(old.direction, new.direction)
        assert float(new.coefficients.norm()) == pytest.approx(float(old.coefficients.norm()))
    assert not torch.equal(drawn[0].coefficients, drawn[1].coefficients)


def test_a_random_region_has_as_many_rows_a_matrix_and_the_same_direction(base: BaseModel) -> None:
    terms = _surgery_terms()
    drawn = random_region(base, terms, _generator())
    for old, new in zip(terms, drawn, strict=True):
        assert len(new.rows) == len(old.rows)
        assert len(new.rows.unique()) == len(new.rows)
        assert int(new.rows.max()) < INTERMEDIATE
        assert torch.equal(new.direction, old.direction)
    assert not torch.equal(drawn[0].rows, terms[0].rows)


def test_only_methods_that_choose_rows_have_a_random_region() -> None:
    assert kinds_for("model_surgery", BOTH) == list(BOTH)
    assert kinds_for("bias", BOTH) == ["random_direction"]


class _Meter:
    """Measures as a small edit would be measured: KL is the square of the whole change."""

    def __init__(self, kl: Callable[[float], float]) -> None:
        self._kl = kl
        self.measured = 0

    def kl(self, terms: list[Term], strength: float) -> float:
        self.measured += 1
        return self._kl(strength)


def _rival(base: BaseModel, meter: Any, target: float) -> Any:
    return make_rival(
        base,
        "random_direction",
        "bias",
        _bias_terms(),
        meter,
        target_kl=target,
        seed=3,
        progress=lambda share: None,
    )


def test_a_rival_is_scaled_until_it_is_as_far_from_the_base(base: BaseModel) -> None:
    rival = _rival(base, _Meter(lambda scale: 0.01 * scale**2), target=0.09)
    assert rival.matched
    assert rival.kl == pytest.approx(0.09, rel=0.1)
    assert rival.scale == pytest.approx(3, rel=0.05)
    norms = [float(term.coefficients.norm()) for term in rival.terms]
    wanted = [rival.scale * float(term.coefficients.norm()) for term in _bias_terms()]
    assert norms == pytest.approx(wanted)


@pytest.mark.parametrize("floor", [0.001, 1.0])
def test_a_rival_that_cannot_be_matched_is_the_nearest_and_marked(
    base: BaseModel, floor: float
) -> None:
    """A KL that does not depend on the scale is on one side of the target for ever."""
    meter = _Meter(lambda scale: floor)
    rival = _rival(base, meter, target=0.09)
    assert not rival.matched
    assert rival.kl == floor
    assert rival.evaluations == meter.measured == 6


def test_the_same_seed_draws_the_same_rival(base: BaseModel) -> None:
    first, second = (_rival(base, _Meter(lambda scale: scale**2), 0.5) for _ in range(2))
    assert [term.digest for term in first.terms] == [term.digest for term in second.terms]
