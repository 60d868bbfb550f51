"""What terms cost by K-FAC's estimate, and files of it."""

from __future__ import annotations

import pytest
import torch

from models_store.errors import EditFailed
from tests.workers.surgery.methods.test_natural import IN, OUT, gates
from workers.surgery.curvature import Curvature, cost, first_scale
from workers.surgery.moments import DenseMoment, LowRankMoment
from workers.surgery.terms import Term, make_term


def terms() -> list[Term]:
    generator = torch.Generator().manual_seed(1)
    _, curvature = gates()
    return [
        make_term(
            key,
            torch.randn(IN, generator=generator),
            torch.tensor([1, 4, 7]),
            torch.randn(3, generator=generator),
        )
        for key in curvature
    ]


def test_the_cost_is_that_of_the_dense_change() -> None:
    _, curvature = gates()
    expected = 0.0
    for term in terms():
        change = torch.zeros(OUT, IN, dtype=torch.float64)
        for row, factor in zip(term.rows.tolist(), term.coefficients.tolist(), strict=True):
            change[row] = factor * term.direction.double()
        own = curvature[term.key]
        assert isinstance(own.inputs, DenseMoment)
        assert isinstance(own.outputs, DenseMoment)
        s, a = own.outputs.matrix.double(), own.inputs.matrix.double()
        expected += float((s @ change @ a @ change.T).trace())
    assert cost(terms(), curvature) == pytest.approx(expected)


def test_the_first_scale_expects_a_twentieth_of_the_kl_that_comes() -> None:
    own = Curvature(DenseMoment(torch.eye(2)), DenseMoment(torch.eye(3)))
    (key, *_) = gates()[0]
    rows, coefficients = torch.tensor([1]), torch.tensor([3.0])
    term = make_term(key, torch.tensor([4.0, 0.0]), rows, coefficients)
    assert cost([term], {key: own}) == pytest.approx(9 * 16)
    # 20 times ½ s² · 144 is 0.1.
    assert first_scale([term], {key: own}) == pytest.approx(1 / 120)
    small = make_term(key, torch.tensor([0.25, 0.0]), rows, torch.tensor([0.4]))
    assert first_scale([small], {key: own}) == pytest.approx(1.0)


def test_terms_that_cost_no_finite_amount_have_no_scale() -> None:
    own = Curvature(DenseMoment(torch.full((2, 2), float("inf"))), DenseMoment(torch.eye(3)))
    (key, *_) = gates()[0]
    term = make_term(key, torch.ones(2), torch.tensor([1]), torch.ones(1))
    with pytest.raises(EditFailed, match="not finite"):
        first_scale([term], {key: own})


def test_curvature_comes_back_from_its_tensors() -> None:
    _, curvature = gates()
    own = next(iter(curvature.values()))
    low = LowRankMoment(torch.ones(OUT), torch.eye(OUT)[:, :2].contiguous(), torch.tensor([3.0, 2]))
    again = Curvature.from_tensors(Curvature(own.inputs, low).to_tensors())
    assert again.inputs.to_tensors()["matrix"].equal(own.inputs.to_tensors()["matrix"])
    assert isinstance(again.outputs, LowRankMoment)
    assert torch.equal(again.outputs.values, low.values)
    with pytest.raises(KeyError):
        Curvature.from_tensors(own.inputs.to_tensors())


def test_terms_that_are_zero_have_no_scale() -> None:
    _, curvature = gates()
    zero = [make_term(t.key, t.direction, t.rows, 0 * t.coefficients) for t in terms()]
    with pytest.raises(EditFailed, match="change nothing"):
        first_scale(zero, curvature)
