"""The regression is constant where text is read and nothing at first tokens."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models_store.errors import EditFailed
from models_store.weights.architectures import DOWN
from workers.surgery.methods.bias import Bias
from workers.surgery.methods.bias.fit import combine
from workers.surgery.regression import (
    FirstTokens,
    LayerStatistics,
    TokenMoments,
    fit_layer,
)

# DEFAULT_LAYERS bias

SIZE, HIDDEN = 12, 6


def moments(vectors: Tensor) -> TokenMoments:
    collected = TokenMoments(vectors.shape[1], vectors.device)
    for part in torch.split(vectors, 7):
        collected.add_(part)
    return collected


def rest_vectors(seed: int = 0) -> Tensor:
    """Inputs at ordinary tokens: noise around a mean."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(400, SIZE, generator=generator) * 0.3 + 1.0


def regressed(rest: Tensor, first: FirstTokens, ridge: float = 0.01) -> Tensor:
    """a of a layer."""
    return fit_layer(statistics(0, torch.ones(HIDDEN), rest), first, ridge).vector


def first_vectors(count: int, seed: int = 1, spread: float = 0.5) -> Tensor:
    """Inputs at first tokens: huge along an axis of their own."""
    generator = torch.Generator().manual_seed(seed)
    vectors = spread * torch.randn(count, SIZE, generator=generator)
    vectors[:, 0] += 300.0
    return vectors


def statistics(layer: int, difference: Tensor, rest: Tensor) -> LayerStatistics:
    zero = torch.zeros(HIDDEN, dtype=torch.float64)
    return LayerStatistics(layer, difference.double(), zero, moments(rest), output_norm=5.0)


def test_moments_are_means_over_all_batches() -> None:
    vectors = rest_vectors()
    collected = moments(vectors)
    assert collected.count == 400
    assert torch.allclose(collected.mean, vectors.double().mean(dim=0), atol=1e-6)
    assert torch.allclose(collected.second, (vectors.T @ vectors).double() / 400, atol=1e-5)


@pytest.mark.parametrize("ridge", [0.01, 0.5])
@pytest.mark.parametrize("size", [1.0, 1e-2])
def test_the_regression_solves_the_normal_equations(size: float, ridge: float) -> None:
    """Whatever the size of the inputs: the ridge is a share of it."""
    rest = size * rest_vectors()
    first = FirstTokens(size * first_vectors(50), size * first_vectors(20, seed=2))
    found = regressed(rest, first, ridge)
    r, f = rest.double(), first.fitted.double()
    second = torch.zeros(SIZE, SIZE, dtype=torch.float64)
    for h in r:
        second += torch.outer(h, h) / len(r)
    damping = ridge * second.trace() / SIZE
    for h in f:
        second += torch.outer(h, h) / len(f)
    second += damping * torch.eye(SIZE, dtype=torch.float64)
    expected = torch.linalg.solve(second, r.mean(dim=0))
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-7 / size)


def test_it_responds_to_text_and_not_to_first_tokens() -> None:
    rest = rest_vectors()
    first = FirstTokens(first_vectors(50, spread=0.01), first_vectors(20, seed=2, spread=0.01))
    found = regressed(rest, first)
    assert (rest_vectors(seed=5).double() @ found).mean() == pytest.approx(1.0, abs=0.05)
    assert (first.checked.double() @ found).abs().max() < 0.05
    # Without first tokens in the regression they would move a great deal.
    blind = regressed(rest, FirstTokens(torch.zeros(1, SIZE), first.checked))
    assert (first.checked.double() @ blind).abs().min() > 5


def test_terms_write_the_difference_of_means_into_every_row() -> None:
    difference = torch.arange(1.0, HIDDEN + 1)
    first = FirstTokens(first_vectors(50, spread=0.01), first_vectors(20, seed=2, spread=0.01))
    fit = combine([fit_layer(statistics(3, difference, rest_vectors()), first)])
    (term,) = fit.terms
    assert (term.layer, term.module, term.expert) == (3, DOWN, None)
    assert term.rows.tolist() == list(range(HIDDEN))
    assert torch.equal(term.coefficients, difference)
    shift = fit.guess * term.coefficients.norm() / 5.0
    assert float(shift) == pytest.approx(0.4)


def test_the_guess_shifts_all_layers_together_by_two_fifths_of_what_they_give() -> None:
    first = FirstTokens(first_vectors(50, spread=0.01), first_vectors(20, seed=2, spread=0.01))
    # Differences of 15 and 20 are 3 and 4 times the norm of 5 that `down_proj` gives.
    layers = [statistics(3, length * torch.eye(HIDDEN)[0], rest_vectors()) for length in (15, 20)]
    fitted = [fit_layer(layer, first) for layer in layers]
    assert [layer.shift for layer in fitted] == pytest.approx([3.0, 4.0])
    assert combine(fitted).guess == pytest.approx(0.4 / 5)


def test_a_layer_is_checked_on_other_first_tokens_up_to_a_tenth() -> None:
    rest, fitted = rest_vectors(), first_vectors(50, spread=0.01)
    vector = regressed(rest, FirstTokens(fitted, fitted))
    along = vector / vector.square().sum()  # a · h is 1 there
    for size, used in ((0.0999, True), (0.1001, False)):
        checked = torch.stack([size * along, -size * along]).float()
        fit = fit_layer(statistics(2, torch.ones(HIDDEN), rest), FirstTokens(fitted, checked))
        assert fit.check.first_token_rms == pytest.approx(size, rel=1e-4)
        assert fit.check.first_token_max == pytest.approx(size, rel=1e-4)
        assert (fit.check.layer, fit.check.used, fit.term is not None) == (2, used, used)
    mixed = torch.stack([0.06 * along, -0.08 * along]).float()
    check = fit_layer(statistics(2, torch.ones(HIDDEN), rest), FirstTokens(fitted, mixed)).check
    assert check.first_token_rms == pytest.approx(0.005**0.5, rel=1e-4)
    assert check.first_token_max == pytest.approx(0.08, rel=1e-4)


def test_the_ridge_is_a_hundredth_by_default() -> None:
    first = FirstTokens(first_vectors(50), first_vectors(20, seed=2))
    layer = statistics(0, torch.ones(HIDDEN), rest_vectors())
    assert torch.equal(fit_layer(layer, first).vector, fit_layer(layer, first, 0.01).vector)


def test_neutral_text_feels_the_less_the_more_it_weighs() -> None:
    rest = rest_vectors()
    layer, first = statistics(0, torch.ones(HIDDEN), rest), FirstTokens(*[first_vectors(50)] * 2)
    others = rest_vectors(seed=3) * torch.tensor([1.6, 0.4] * (SIZE // 2))
    felt = []
    for weight in (0.0, 0.1, 1.0):
        second = weight * moments(others).second
        vector = fit_layer(layer, first, neutral=second if weight else None).vector
        squares = [(inputs.double() @ vector).square().mean() for inputs in (others, rest)]
        felt.append(float(squares[0] / squares[1]))
        wide, known = rest.double(), first.fitted.double()
        every = wide.T @ wide / len(wide) + known.T @ known / len(known) + second
        damping = 0.01 * float((wide.T @ wide / len(wide)).diagonal().mean())
        expected = torch.linalg.solve(every + damping * torch.eye(SIZE), wide.mean(dim=0))
        assert torch.allclose(vector, expected, atol=1e-6)
    assert felt[0] > 1.2 * felt[1] > 1.44 * felt[2]


def test_the_shift_goes_from_the_undesired_side_to_the_desired_one() -> None:
    first = FirstTokens(first_vectors(50, spread=0.01), first_vectors(20, seed=2, spread=0.01))
    desired, undesired = torch.arange(1.0, HIDDEN + 1), 3 * torch.ones(HIDDEN)
    layer = replace(statistics(3, desired, rest_vectors()), undesired=undesired.double())
    term = fit_layer(layer, first).term
    assert term is not None
    assert term.coefficients.tolist() == [-2.0, -1.0, 0.0, 1.0, 2.0, 3.0]


def test_a_layer_that_would_move_first_tokens_is_left_out() -> None:
    good = FirstTokens(first_vectors(50, spread=0.01), first_vectors(20, seed=2, spread=0.01))
    other = first_vectors(20, seed=3)
    other[:, 5] += 100.0
    bad = FirstTokens(good.fitted, other)
    layers = [statistics(layer, torch.ones(HIDDEN), rest_vectors()) for layer in (1, 2)]
    fitted = [fit_layer(layers[0], good), fit_layer(layers[1], bad)]
    fit = combine(fitted)
    assert [term.layer for term in fit.terms] == [1]
    assert [(check.layer, check.used) for check in fit.checks] == [(1, True), (2, False)]
    assert fit.checks[1].first_token_rms > 0.1
    with pytest.raises(EditFailed, match="first tokens would move"):
        combine(fitted[1:])


def test_equal_sides_fail() -> None:
    first = FirstTokens(first_vectors(50, spread=0.01), first_vectors(20, seed=2, spread=0.01))
    fitted = fit_layer(statistics(0, torch.zeros(HIDDEN), rest_vectors()), first)
    with pytest.raises(EditFailed, match="same mean"):
        combine([fitted])


def test_dead_activations_fail() -> None:
    with pytest.raises(EditFailed, match="not finite or all zero"):
        regressed(torch.zeros(10, SIZE), FirstTokens(torch.zeros(1, SIZE), torch.zeros(1, SIZE)))


@pytest.mark.parametrize(
    ("layers", "expected"), [(30, (14, 17, 20)), (18, (8, 10, 12)), (2, (0, 1)), (1, (0,))]
)
def test_default_layers_lie_a_little_past_the_middle(
    layers: int, expected: tuple[int, ...]
) -> None:
    assert Bias().default_layers(layers) == expected
