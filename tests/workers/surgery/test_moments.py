"""Second moments, whole and as a diagonal with leading eigenpairs, against plain algebra."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models_store.errors import EditFailed
from workers.surgery.moments import (
    DenseMoment,
    DenseSum,
    LowRankMoment,
    Moment,
    SketchSum,
    moment_from_tensors,
    moment_sum,
)

SIZE = 40
CPU = torch.device("cpu")


def vectors(count: int = 300, *, leading: int = 6, noise: float = 0.05) -> Tensor:
    """A few strong directions, and weak noise of different strength everywhere."""
    generator = torch.Generator().manual_seed(3)
    axes, _ = torch.linalg.qr(torch.randn(SIZE, leading, generator=generator))
    strong = torch.randn(count, leading, generator=generator) * torch.linspace(4, 1, leading)
    weak = torch.randn(count, SIZE, generator=generator) * torch.linspace(0.2, 2, SIZE) * noise
    return strong @ axes.T + weak + 0.3


def whole(moment: Moment) -> Tensor:
    """The matrix that a moment stands for."""
    if isinstance(moment, DenseMoment):
        return moment.matrix.double()
    assert isinstance(moment, LowRankMoment)
    u = moment.vectors.double()
    return moment.rest.double().diag() + u @ moment.values.double().diag() @ u.T


def summed(kind: DenseSum | SketchSum, samples: Tensor) -> Moment:
    for part in torch.split(samples, 37):
        kind.add_(part)
    return kind.moment()


def exact(samples: Tensor) -> Tensor:
    return (samples.double().T @ samples.double()) / len(samples)


def sketched(rank: int = 8, width: int = 20) -> Moment:
    return summed(SketchSum(SIZE, CPU, rank=rank, width=width), vectors())


def test_a_small_moment_is_kept_whole() -> None:
    found = summed(DenseSum(SIZE, CPU), vectors())
    assert torch.allclose(whole(found), exact(vectors()), atol=1e-5)
    assert isinstance(moment_sum(4096, CPU), DenseSum)


def test_a_large_moment_is_never_there_as_a_whole() -> None:
    collected = moment_sum(4097, CPU)
    assert isinstance(collected, SketchSum)
    generator = torch.Generator().manual_seed(0)
    collected.add_(torch.randn(5, 4097, generator=generator))
    held = [value for value in vars(collected).values() if isinstance(value, Tensor)]
    assert max(value.numel() for value in held) == 4097 * 512
    found = collected.moment()
    assert isinstance(found, LowRankMoment)
    assert found.vectors.shape == (4097, 5)  # five vectors span no more
    assert found.rest.max() < 1e-4


def test_a_sketch_keeps_the_diagonal_and_the_leading_eigenpairs() -> None:
    found = sketched()
    assert isinstance(found, LowRankMoment)
    expected = exact(vectors())
    assert torch.allclose(found.diagonal, expected.diagonal(), rtol=1e-4)
    assert found.vectors.shape == (SIZE, 8)
    assert torch.allclose(found.vectors.T @ found.vectors, torch.eye(8), atol=1e-5)
    values = torch.linalg.eigvalsh(expected).flip(0)[:6]
    assert torch.allclose(found.values[:6].double(), values, rtol=0.02)
    assert torch.linalg.matrix_norm(whole(found) - expected, 2) < 0.02 * values[0]


def test_a_sketch_is_never_larger_than_the_moment() -> None:
    found = sketched()
    assert isinstance(found, LowRankMoment)
    assert bool((found.rest >= 0).all())
    leading = whole(found) - found.rest.double().diag()
    assert torch.linalg.eigvalsh(exact(vectors()) - leading).min() > -1e-5


@pytest.mark.parametrize("sketch", [False, True])
def test_a_factor_is_a_root_of_the_damped_moment(sketch: bool) -> None:
    moment = sketched() if sketch else summed(DenseSum(SIZE, CPU), vectors())
    damped = whole(moment) + 0.03 * whole(moment).trace() / SIZE * torch.eye(SIZE).double()
    factor = moment.damped(0.03)
    inverse = factor.whiten(torch.eye(SIZE, dtype=torch.float64))
    # B⁻¹ (B Bᵀ) B⁻ᵀ = I
    assert torch.allclose(inverse @ damped @ inverse.T, torch.eye(SIZE).double(), atol=1e-5)
    vector = torch.arange(1.0, SIZE + 1, dtype=torch.float64)
    assert torch.allclose(factor.unwhiten(vector), inverse.T @ vector)
    solved = factor.unwhiten(factor.whiten(vector[:, None])[:, 0])
    assert torch.allclose(solved, torch.linalg.solve(damped, vector), rtol=1e-5)
    assert moment.quadratic(vector) == pytest.approx(float(vector @ whole(moment) @ vector))
    assert torch.allclose(moment.diagonal, whole(moment).diagonal())


@pytest.mark.parametrize("sketch", [False, True])
def test_a_moment_comes_back_from_its_tensors(sketch: bool) -> None:
    moment = sketched() if sketch else summed(DenseSum(SIZE, CPU), vectors())
    again = moment_from_tensors(moment.to_tensors())
    assert type(again) is type(moment)
    assert torch.equal(whole(again), whole(moment))


@pytest.mark.parametrize("kind", [DenseSum, SketchSum])
def test_a_moment_of_one_vector_is_its_outer_product(kind: type[DenseSum | SketchSum]) -> None:
    vector = torch.linspace(-1, 2, SIZE)
    collected = kind(SIZE, CPU)
    collected.add_(vector[None])
    found = collected.moment()
    assert torch.allclose(whole(found), torch.outer(vector, vector).double(), atol=1e-5)
    if isinstance(found, LowRankMoment):
        assert found.vectors.shape == (SIZE, 1)


@pytest.mark.parametrize("kind", [DenseSum, SketchSum])
def test_a_moment_of_nothing_is_zero(kind: type[DenseSum | SketchSum]) -> None:
    assert moment_sum(8, CPU).moment().quadratic(torch.ones(8)) == 0
    assert kind(8, CPU).moment().diagonal.tolist() == [0.0] * 8


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_what_cannot_be_inverted_fails_clearly(value: float) -> None:
    with pytest.raises(EditFailed, match="not finite or all zero"):
        DenseMoment(torch.full((4, 4), value)).damped(0.03)
    with pytest.raises(EditFailed, match="cannot be inverted"):
        DenseMoment(torch.tensor([[1.0, 5.0], [5.0, 1.0]])).damped(0.03)
