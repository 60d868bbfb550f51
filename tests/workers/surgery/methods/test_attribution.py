"""Rows chosen by attribution against loops over rows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models_store.errors import EditFailed, InvalidRequest
from models_store.weights.architectures import MatrixKey
from tests.workers.surgery.methods.test_natural import IN, OUT, damped, gates
from workers.surgery.curvature import Curvature, first_scale
from workers.surgery.methods.attribution import Attribution
from workers.surgery.methods.attribution.fit import DEFAULT_FRACTION, fit_attribution
from workers.surgery.moments import DenseMoment

Means = dict[MatrixKey, Tensor]


def means(curvature: dict[MatrixKey, Curvature]) -> tuple[Means, Means]:
    generator = torch.Generator().manual_seed(4)
    undesired, desired = (
        {key: torch.randn(IN, generator=generator) for key in curvature} for _ in range(2)
    )
    return undesired, desired


def test_rows_are_those_of_a_slow_version() -> None:
    gradients, curvature = gates()
    undesired, desired = means(curvature)
    fit = fit_attribution(gradients, curvature, undesired, desired, damping=0.05, fraction=0.3)
    scored = []
    directions = {}
    for key, own in curvature.items():
        assert isinstance(own.inputs, DenseMoment)
        assert isinstance(own.outputs, DenseMoment)
        a, s = own.inputs.matrix.double(), own.outputs.matrix.double()
        difference = (undesired[key] - desired[key]).double()
        v = torch.linalg.solve(damped(own.inputs, 0.05), difference)
        directions[key] = v
        spread = float(v @ a @ v)
        for row in range(OUT):
            gain = float(gradients[key][row].double() @ v)
            scored.append((gain**2 / (float(s[row, row]) * spread), key, row, gain))
    best = sorted(scored, reverse=True)[: round(0.3 * 3 * OUT)]
    expected = {(key, row): 1.0 if gain > 0 else -1.0 for _, key, row, gain in best}
    found = {
        (term.key, row): factor
        for term in fit.terms
        for row, factor in zip(term.rows.tolist(), term.coefficients.tolist(), strict=True)
    }
    assert found == expected
    assert (fit.rows, fit.total_rows) == (8, 27)
    for term in fit.terms:
        assert torch.allclose(term.direction.double(), directions[term.key], rtol=1e-5)
    assert fit.guess == first_scale(fit.terms, curvature)


def test_what_is_taken_where_nothing_is_said() -> None:
    gradients, curvature = gates()
    sides = means(curvature)
    said = fit_attribution(gradients, curvature, *sides, damping=0.05, fraction=0.0465)
    unsaid = fit_attribution(gradients, curvature, *sides)
    assert [term.digest for term in said.terms] == [term.digest for term in unsaid.terms]
    assert Attribution().fraction == DEFAULT_FRACTION == 0.0465


def test_one_gate_that_gains_is_enough() -> None:
    gradients, curvature = gates()
    undesired, desired = means(curvature)
    first, *others = gradients
    for key in others:
        desired[key] = undesired[key]
    fit = fit_attribution(gradients, curvature, undesired, desired, fraction=0.2)
    assert [term.key for term in fit.terms] == [first]


def test_one_row_that_gains_a_little_is_enough() -> None:
    gradients, curvature = gates()
    small = {key: torch.zeros(OUT, IN) for key in gradients}
    first = next(iter(small))
    small[first][4] = 1e-3 * gradients[first][4]
    fit = fit_attribution(small, curvature, *means(curvature), fraction=1 / 27)
    assert [(term.key, term.rows.tolist()) for term in fit.terms] == [(first, [4])]


def test_every_row_that_moves_gains() -> None:
    gradients, curvature = gates()
    fit = fit_attribution(gradients, curvature, *means(curvature), fraction=1.0)
    for term in fit.terms:
        gains = term.coefficients * (gradients[term.key][term.rows] @ term.direction)
        assert bool((gains > 0).all())


def test_equal_sides_fail() -> None:
    gradients, curvature = gates()
    undesired, _ = means(curvature)
    with pytest.raises(EditFailed, match="same means"):
        fit_attribution(gradients, curvature, undesired, undesired)


def test_means_that_are_not_finite_fail() -> None:
    gradients, curvature = gates()
    undesired, desired = means(curvature)
    desired[next(iter(desired))][0] = float("nan")
    with pytest.raises(EditFailed, match="not finite"):
        fit_attribution(gradients, curvature, undesired, desired)


def test_a_fraction_that_picks_no_row_is_refused() -> None:
    gradients, curvature = gates()
    with pytest.raises(InvalidRequest, match="picks 0 of 27 rows"):
        fit_attribution(gradients, curvature, *means(curvature), fraction=0.001)
