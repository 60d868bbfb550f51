"""The natural step against a dense solve: the whole Kronecker product, then an SVD."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models_store.errors import EditFailed, InvalidRequest
from models_store.weights.architectures import GATE, MatrixKey
from workers.surgery.curvature import Curvature, first_scale
from workers.surgery.methods.natural.fit import fit_natural, top_singular_triple
from workers.surgery.moments import DenseMoment, LowRankMoment, Moment

OUT, IN = 9, 6


def moment(size: int, seed: int) -> DenseMoment:
    samples = torch.randn(40, size, generator=torch.Generator().manual_seed(seed))
    samples = samples * torch.linspace(0.2, 3, size) + 0.5
    return DenseMoment(samples.T @ samples / 40)


def gates(count: int = 3) -> tuple[dict[MatrixKey, Tensor], dict[MatrixKey, Curvature]]:
    generator = torch.Generator().manual_seed(9)
    keys = [MatrixKey(layer, GATE) for layer in range(count)]
    gradients = {key: torch.randn(OUT, IN, generator=generator) for key in keys}
    curvature = {key: Curvature(moment(IN, key.layer), moment(OUT, key.layer + 50)) for key in keys}
    return gradients, curvature


def damped(moment: Moment, share: float) -> Tensor:
    assert isinstance(moment, DenseMoment)
    matrix = moment.matrix.double()
    return matrix + share * matrix.trace() / len(matrix) * torch.eye(len(matrix)).double()


def power(matrix: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values**exponent) @ vectors.T


def test_the_step_is_the_best_of_rank_one_for_its_cost() -> None:
    gradients, curvature = gates()
    fit = fit_natural(gradients, curvature, damping=0.03)
    for term in fit.terms:
        a = damped(curvature[term.key].inputs, 0.03)
        s = damped(curvature[term.key].outputs, 0.03)
        g = gradients[term.key].double()
        # The full natural step solves (S kron A) vec(ΔW) = vec(G).
        full = torch.linalg.solve(torch.kron(s, a), g.flatten()).view(OUT, IN)
        assert torch.allclose(full, torch.linalg.solve(s, g) @ torch.linalg.inv(a))
        # Where cost is the squared norm, the nearest matrix of rank one is by SVD.
        u, sigma, vh = torch.linalg.svd(power(s, 0.5) @ full @ power(a, 0.5))
        nearest = power(s, -0.5) @ (sigma[0] * torch.outer(u[:, 0], vh[0])) @ power(a, -0.5)
        found = torch.outer(term.coefficients.double(), term.direction.double())
        assert torch.allclose(found, nearest, rtol=1e-5, atol=1e-6)
        gain = float((g * found).sum())
        spent = float((s @ found @ a * found).sum())
        assert gain == pytest.approx(float(sigma[0]) ** 2, rel=1e-5)
        assert spent == pytest.approx(float(sigma[0]) ** 2, rel=1e-5)
        (step,) = [step for step in fit.steps if step.layer == term.layer]
        assert step.gain == pytest.approx(float(sigma[0]))
        assert step.share == pytest.approx(float(sigma[0] ** 2 / sigma.square().sum()))


def test_the_rows_that_matter_most_are_kept_over_all_gates() -> None:
    gradients, curvature = gates()
    whole = fit_natural(gradients, curvature)
    fit = fit_natural(gradients, curvature, fraction=0.25)
    scores = {}
    for term in whole.terms:
        outputs = curvature[term.key].outputs
        assert isinstance(outputs, DenseMoment)
        for row, factor in enumerate(term.coefficients.tolist()):
            scores[term.key, row] = abs(factor) * float(outputs.matrix[row, row]) ** 0.5
    best = sorted(scores, key=lambda place: -scores[place])[: round(0.25 * 3 * OUT)]
    kept = {(term.key, row): term for term in fit.terms for row in term.rows.tolist()}
    assert set(kept) == set(best)
    before = {term.key: term for term in whole.terms}
    for term in fit.terms:
        assert torch.equal(term.direction, before[term.key].direction)
        assert torch.equal(term.coefficients, before[term.key].coefficients[term.rows])
    assert fit.guess == first_scale(fit.terms, curvature)


def test_outputs_of_low_rank_give_the_step_of_the_matrix_they_stand_for() -> None:
    gradients, curvature = gates(1)
    (key,) = gradients
    axes, _ = torch.linalg.qr(torch.randn(OUT, 2, generator=torch.Generator().manual_seed(6)))
    rest, values = torch.linspace(0.1, 0.5, OUT), torch.tensor([5.0, 2.0])
    low = LowRankMoment(rest, axes, values)
    same = DenseMoment(rest.diag() + axes @ values.diag() @ axes.T)
    inputs = curvature[key].inputs
    found, expected = (
        fit_natural(gradients, {key: Curvature(inputs, outputs)}, fraction=0.5)
        for outputs in (low, same)
    )
    (term,), (other,) = found.terms, expected.terms
    assert torch.equal(term.rows, other.rows)
    changes = [torch.outer(t.coefficients, t.direction) for t in (term, other)]
    assert torch.allclose(*changes, rtol=1e-4, atol=1e-6)
    assert found.guess == pytest.approx(expected.guess, rel=1e-4)


def test_the_same_gradients_give_the_same_terms() -> None:
    first, again = (fit_natural(*gates()) for _ in range(2))
    assert [term.digest for term in first.terms] == [term.digest for term in again.terms]


def test_the_power_iteration_finds_the_top_of_an_svd() -> None:
    generator = torch.Generator().manual_seed(2)
    for shape in ((30, 12), (5, 40), (1, 3)):
        matrix = torch.randn(shape, generator=generator, dtype=torch.float64)
        left, gain, right = top_singular_triple(matrix)
        u, sigma, vh = torch.linalg.svd(matrix)
        assert gain == pytest.approx(float(sigma[0]), rel=1e-9)
        assert torch.allclose(torch.outer(left, right), torch.outer(u[:, 0], vh[0]), atol=1e-5)


def test_a_gate_without_gradient_is_left_alone() -> None:
    gradients, curvature = gates()
    silent = MatrixKey(1, GATE)
    gradients[silent].zero_()
    fit = fit_natural(gradients, curvature)
    assert [term.layer for term in fit.terms] == [0, 2]
    assert (fit.steps[1].gain, fit.steps[1].share) == (0, 0)
    with pytest.raises(EditFailed, match="gradients are zero"):
        fit_natural({silent: gradients[silent]}, curvature)


def test_gradients_that_are_not_finite_fail() -> None:
    gradients, curvature = gates()
    gradients[MatrixKey(2, GATE)][0, 0] = float("nan")
    with pytest.raises(EditFailed, match="not finite"):
        fit_natural(gradients, curvature)


def test_a_fraction_that_keeps_no_row_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="picks 0 of 27 rows"):
        fit_natural(*gates(), fraction=0.001)
