from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from models_store.weights.architectures import DOWN, GATE, MatrixKey
from tests.support.pico import HIDDEN, INTERMEDIATE
from workers.evaluation.controls.baselines import (
    RandomKind,
    as_it_is,
    at_equal_kl,
    chooses_rows,
    draw,
    random_directions,
    random_region,
)
from workers.runtime.loading import LoadedModel, load_base
from workers.surgery.terms import Term, make_term


@pytest.fixture(scope="module")
def base(pico_folder: Path) -> LoadedModel:
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
    drawn = random_directions(terms, "model_surgery", _generator())
    assert torch.equal(drawn[0].direction, drawn[1].direction)
    assert float(drawn[0].direction.norm()) == pytest.approx(float(terms[0].direction.norm()))
    cosine = torch.cosine_similarity(drawn[0].direction, terms[0].direction, dim=0)
    assert abs(float(cosine)) < 0.7
    for old, new in zip(terms, drawn, strict=True):
        assert torch.equal(old.rows, new.rows)
        assert torch.equal(old.coefficients, new.coefficients)


def test_outputs_are_replaced_each_by_its_own_of_the_same_norm() -> None:
    terms = _bias_terms()
    drawn = random_directions(terms, "bias", _generator())
    for old, new in zip(terms, drawn, strict=True):
        assert torch.equal(old.direction, new.direction)
        assert float(new.coefficients.norm()) == pytest.approx(float(old.coefficients.norm()))
    assert not torch.equal(drawn[0].coefficients, drawn[1].coefficients)


def test_a_random_region_has_as_many_rows_a_matrix_and_the_same_direction(
    base: LoadedModel,
) -> None:
    terms = _surgery_terms()
    drawn = random_region(base, terms, _generator())
    for old, new in zip(terms, drawn, strict=True):
        assert len(new.rows) == len(old.rows)
        assert len(set(new.rows.tolist())) == len(new.rows)
        assert int(new.rows.max()) < INTERMEDIATE
        assert torch.equal(new.direction, old.direction)
    assert not torch.equal(drawn[0].rows, terms[0].rows)


def test_each_term_of_a_pair_is_redrawn_as_its_own_method_is() -> None:
    gate, down = _surgery_terms()[0], _bias_terms()[0]
    drawn = random_directions([gate, down], "attribution+bias", _generator())
    assert not torch.equal(drawn[0].direction, gate.direction)
    assert torch.equal(drawn[0].coefficients, gate.coefficients)
    assert torch.equal(drawn[1].direction, down.direction)
    assert not torch.equal(drawn[1].coefficients, down.coefficients)


def test_only_an_edit_that_picks_rows_has_a_random_region(base: LoadedModel) -> None:
    assert chooses_rows(base, _surgery_terms())
    assert not chooses_rows(base, _bias_terms())
    assert chooses_rows(base, [*_bias_terms(), *_surgery_terms()])


def test_a_random_region_leaves_terms_on_all_rows_as_they_are(base: LoadedModel) -> None:
    drawn = random_region(base, [*_surgery_terms(), *_bias_terms()], _generator())
    assert [term.digest for term in drawn[2:]] == [term.digest for term in _bias_terms()]


class _Meter:
    """Measures as a small edit would be measured: KL is the square of the whole change."""

    def __init__(self, kl: Callable[[float], float]) -> None:
        self._kl = kl
        self.measured = 0

    def kl(self, terms: Sequence[Term], strength: float = 1.0) -> float:
        self.measured += 1
        return self._kl(strength)


def _rival(base: LoadedModel, meter: Any, target: float) -> Any:
    terms = draw(base, "random_direction", _bias_terms(), "bias", seed=3)
    return at_equal_kl("random_direction", terms, meter, target)


def test_a_rival_is_scaled_until_it_is_as_far_from_the_base(base: LoadedModel) -> None:
    rival = _rival(base, _Meter(lambda scale: 0.01 * scale**2), target=0.09)
    assert rival.matched
    assert rival.kl == pytest.approx(0.09, rel=0.1)
    assert rival.scale == pytest.approx(3, rel=0.05)
    norms = [float(term.coefficients.norm()) for term in rival.terms]
    wanted = [rival.scale * float(term.coefficients.norm()) for term in _bias_terms()]
    assert norms == pytest.approx(wanted)


@pytest.mark.parametrize("floor", [0.001, 1.0])
def test_a_rival_that_cannot_be_matched_is_the_nearest_and_marked(
    base: LoadedModel, floor: float
) -> None:
    """A KL that does not depend on the scale is on one side of the target for ever."""
    meter = _Meter(lambda scale: floor)
    rival = _rival(base, meter, target=0.09)
    assert not rival.matched
    assert rival.kl == floor
    assert rival.evaluations == meter.measured == 6


def test_the_same_seed_draws_the_same_rival(base: LoadedModel) -> None:
    first, second = (_rival(base, _Meter(lambda scale: scale**2), 0.5) for _ in range(2))
    assert [term.digest for term in first.terms] == [term.digest for term in second.terms]


def test_another_seed_draws_another_rival(base: LoadedModel) -> None:
    kinds: tuple[RandomKind, ...] = ("random_direction", "random_region")
    for kind in kinds:
        first, second = (
            draw(base, kind, _surgery_terms(), "model_surgery", seed) for seed in (0, 1)
        )
        assert [term.digest for term in first] != [term.digest for term in second]


def test_a_rival_whose_model_never_computes_is_left_out(base: LoadedModel) -> None:
    assert _rival(base, _Meter(lambda scale: float("inf")), target=0.09) is None
    broken = _Meter(lambda scale: float("inf"))
    assert as_it_is("paper_alpha", _surgery_terms(), broken) is None


def test_a_rival_that_breaks_at_first_is_found_at_a_smaller_scale(base: LoadedModel) -> None:
    meter = _Meter(lambda scale: 4.0 * scale**2 if scale < 0.5 else float("inf"))
    rival = _rival(base, meter, target=0.09)
    assert rival.matched
    assert rival.scale == pytest.approx(0.15, rel=0.05)


def test_a_rival_as_it_is_has_nothing_that_it_is_matched_to(base: LoadedModel) -> None:
    rival = as_it_is(
        "paper_alpha",
        _surgery_terms(),
        _Meter(lambda scale: 0.09),
    )
    assert rival is not None
    assert (rival.scale, rival.kl, rival.target_kl, rival.matched) == (1.0, 0.09, None, False)
