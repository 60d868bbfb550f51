"""The natural gradient of a shift against a dense solve."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models_store.errors import EditFailed
from models_store.weights.architectures import DOWN
from workers.surgery.methods.natural_bias import NaturalBias
from workers.surgery.methods.natural_bias.fit import fit_natural_bias

# DEFAULT_LAYERS natural_bias
from workers.surgery.moments import DenseMoment
from workers.surgery.regression import LayerCheck, LayerFit

SIZE, HIDDEN, DAMPING = 9, 6, 0.3


def layer(number: int, *, used: bool = True) -> LayerFit:
    vector = torch.linspace(-1, 1, SIZE, dtype=torch.float64) + number
    return LayerFit(LayerCheck(number, 0.0, 0.0, used), vector, None, 1.0)


def problem(seed: int) -> tuple[Tensor, Tensor]:
    """A gradient and a Fisher matrix."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(40, HIDDEN, generator=generator) * torch.arange(1.0, HIDDEN + 1)
    return torch.randn(HIDDEN, generator=generator), rows.T @ rows / 40


def test_each_layer_is_shifted_along_its_natural_gradient() -> None:
    problems = {number: problem(number) for number in (3, 5)}
    found = fit_natural_bias(
        [layer(3), layer(5)],
        {number: gradient for number, (gradient, _) in problems.items()},
        {number: DenseMoment(fisher) for number, (_, fisher) in problems.items()},
        damping=DAMPING,
    )
    for term, (number, (gradient, fisher)) in zip(found.terms, problems.items(), strict=True):
        damped = fisher.double() + DAMPING * fisher.diagonal().mean() * torch.eye(HIDDEN)
        assert (term.layer, term.module) == (number, DOWN)
        assert torch.allclose(term.direction, layer(number).vector.float())
        expected = torch.linalg.inv(damped) @ gradient.double()
        assert torch.allclose(term.coefficients.double(), expected, rtol=1e-5)


def test_no_other_shift_at_the_same_cost_gains_more() -> None:
    gradient, fisher = problem(0)
    damped = fisher.double() + DAMPING * fisher.diagonal().mean() * torch.eye(HIDDEN)
    (term,) = fit_natural_bias(
        [layer(1)], {1: gradient}, {1: DenseMoment(fisher)}, damping=DAMPING
    ).terms
    best = term.coefficients.double()
    gain = float(gradient.double() @ best) / float(best @ damped @ best) ** 0.5
    others = torch.randn(2000, HIDDEN, dtype=torch.float64)
    costs = torch.einsum("ni,ij,nj->n", others, damped, others).sqrt()
    assert float((others @ gradient.double() / costs).max()) <= gain


def test_the_costs_of_all_layers_add_up_before_they_are_squared() -> None:
    def along(axis: int, size: float) -> Tensor:
        return size * torch.nn.functional.one_hot(torch.tensor(axis), HIDDEN).float()

    found = fit_natural_bias(
        [layer(1), layer(2)],
        {1: along(0, 3.0) + along(1, 4.0), 2: along(2, 8.0)},
        {1: DenseMoment(torch.eye(HIDDEN)), 2: DenseMoment(4 * torch.eye(HIDDEN))},
        damping=0.0,
    )
    # Shifts of length 5 and 2: their roots of rᵀ F r are 5 and 4, and ½ (5 + 4)² = 40.5.
    assert found.kl == pytest.approx(40.5)
    assert found.guess == pytest.approx((0.1 / 40.5) ** 0.5)
    assert [step.gain for step in found.steps] == pytest.approx([5.0, 4.0])
    assert [step.layer for step in found.steps] == [1, 2]


def test_a_layer_that_moves_first_tokens_is_left_alone() -> None:
    gradient, fisher = problem(0)
    both = {1: gradient, 2: gradient}, {1: DenseMoment(fisher), 2: DenseMoment(fisher)}
    found = fit_natural_bias([layer(1, used=False), layer(2)], *both, damping=DAMPING)
    assert [term.layer for term in found.terms] == [2]
    assert [check.used for check in found.checks] == [False, True]


def test_an_edit_that_would_change_nothing_is_refused() -> None:
    _, fisher = problem(0)
    with pytest.raises(EditFailed, match="no layer can be written into"):
        fit_natural_bias(
            [layer(1)], {1: torch.zeros(HIDDEN)}, {1: DenseMoment(fisher)}, damping=DAMPING
        )


def test_a_layer_without_a_finite_gain_is_left_out() -> None:
    huge = torch.full((HIDDEN,), 1e200, dtype=torch.float64)
    with pytest.raises(EditFailed, match="no layer can be written into"):
        fit_natural_bias([layer(1)], {1: huge}, {1: DenseMoment(torch.eye(HIDDEN))}, damping=0.0)


def test_it_writes_into_every_second_layer_but_the_first_ones_and_the_last() -> None:
    assert NaturalBias().default_layers(30) == tuple(range(4, 29, 2))
    assert NaturalBias().default_layers(18) == tuple(range(3, 16, 2))
    assert NaturalBias().default_layers(2) == (1,)


def test_a_layer_that_gains_nothing_is_left_out_and_does_not_stop_the_others() -> None:
    gradient, fisher = problem(0)
    both = {1: torch.zeros(HIDDEN), 2: gradient}, {n: DenseMoment(fisher) for n in (1, 2)}
    found = fit_natural_bias([layer(1), layer(2)], *both, damping=DAMPING)
    assert [term.layer for term in found.terms] == [2]
    assert len(found.checks) == 2
