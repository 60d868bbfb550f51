"""The natural step against a dense solve: the whole Kronecker product, then an SVD."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models_store.architectures import GATE, MatrixKey
from workers.surgery.curvature import Curvature
from workers.surgery.methods.natural import fit_natural
from workers.surgery.moments import DenseMoment

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


def damped(moment: DenseMoment, share: float) -> Tensor:
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
