"""Rank-one natural gradient of the gates.

Of the gate W of one layer, with x its input and g the gradient at its output:

    G = ∂/∂W (mean log p(desired) - mean log p(undesired))      a token; = Σ g xᵀ
    A = E[x xᵀ] + damping · mean diag · I                       on neutral text
    S = E[g gᵀ] + damping · mean diag · I                       with labels drawn from the model
    M = L_S⁻¹ G L_A⁻ᵀ ≈ σ û v̂ᵀ                                 L_S L_Sᵀ = S, L_A L_Aᵀ = A
    W += s · c vᵀ      with  c = σ · L_S⁻ᵀ û,   v = L_A⁻ᵀ v̂

tr(S ΔW A ΔWᵀ) is K-FAC's estimate of twice the KL to the base (`workers.surgery.curvature`). Among
all changes that cost the same, S⁻¹ G A⁻¹ gains the most to first order; c vᵀ is the best of rank
one, and gains σ² at a cost of σ². One scale s goes for all layers, so a layer's share is as large
as what it gains for its cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from models_store.errors import EditFailed
from models_store.weights.architectures import MatrixKey
from workers.surgery.candidate import Candidate, Readings
from workers.surgery.curvature import Curvature, first_scale
from workers.surgery.methods.natural import Natural
from workers.surgery.rows import largest_rows
from workers.surgery.terms import Term, make_term

DEFAULT_DAMPING = 0.03
_BLOCK = 8
"""Directions that the power iteration follows at once."""
_MAX_ITERATIONS = 300
_CONVERGED = 1e-13
"""Relative change of σ from one iteration to the next."""


@dataclass(frozen=True)
class LayerStep:
    """What one layer has to give."""

    layer: int
    gain: float
    """σ: first-order gain for each unit of the square root of twice the KL."""
    share: float
    """σ² / ‖M‖²: how much of what the layer's full natural gradient would gain has rank one."""


@dataclass(frozen=True, eq=False)
class NaturalFit:
    """Terms at scale 1, one a gate."""

    terms: tuple[Term, ...]
    steps: tuple[LayerStep, ...]
    guess: float
    """A scale to start the calibration from, on any model."""


def fit(readings: Readings, method: Natural) -> Candidate:
    """The edit of all gates of the method.

    Raises:
        InvalidRequest, EditFailed: as `fit_natural`.
    """
    edited = set(method.layers_in(readings.base.layers))
    fitted = fit_natural(
        {key: g for key, g in readings["gates"].gradients.items() if key.layer in edited},
        readings["curvature"],
        damping=method.damping,
        fraction=method.fraction,
    )
    return Candidate(
        method=method.type,
        label=method.label,
        terms=fitted.terms,
        guess=fitted.guess,
        details={"layers": [asdict(step) for step in fitted.steps]},
    )


def fit_natural(
    gradients: Mapping[MatrixKey, Tensor],
    curvature: Mapping[MatrixKey, Curvature],
    *,
    damping: float = DEFAULT_DAMPING,
    fraction: float = 1.0,
) -> NaturalFit:
    """Take the best step of rank one in every gate.

    Args:
        gradients: G of each gate to edit, `[out, in]`.
        curvature: of these gates, maybe of more.
        damping: of both factors, as a share of the mean of their diagonals.
        fraction: share of the rows of these gates to keep, those with the largest |c| √S_jj over
            all gates together.

    Raises:
        EditFailed: a gradient is not finite or all are zero.
        InvalidRequest: no row would be kept.
    """
    steps: list[LayerStep] = []
    sides: dict[MatrixKey, tuple[Tensor, Tensor]] = {}
    for key in sorted(gradients, key=lambda key: key.order):
        factors = curvature[key]
        inputs, outputs = factors.inputs.damped(damping), factors.outputs.damped(damping)
        whitened = inputs.whiten(outputs.whiten(gradients[key].double()).T).T
        left, gain, right = top_singular_triple(whitened)
        total = float(whitened.square().sum())
        steps.append(LayerStep(key.layer, gain, gain**2 / total if total else 0.0))
        if gain > 0:
            sides[key] = (inputs.unwhiten(right), gain * outputs.unwhiten(left))
    if not sides:
        raise EditFailed("the gradients are zero: both sides are equally likely under any change")
    kept = largest_rows(
        {key: c.abs() * curvature[key].outputs.diagonal.sqrt() for key, (_, c) in sides.items()},
        fraction,
    )
    terms = tuple(
        make_term(key, v, kept[key], c[kept[key]])
        for key, (v, c) in sides.items()
        if len(kept[key])
    )
    return NaturalFit(terms, tuple(steps), first_scale(terms, curvature))


def top_singular_triple(matrix: Tensor) -> tuple[Tensor, float, Tensor]:
    """(û `[m]`, σ, v̂ `[n]`) of a `[m, n]` matrix in fp64, by block power iteration.

    The start is fixed, so the same matrix gives the same signs.

    Raises:
        EditFailed: the matrix is not finite.
    """
    if not bool(torch.isfinite(matrix).all()):
        raise EditFailed("the gradients at a gate are not finite")
    generator = torch.Generator().manual_seed(0)
    columns = min(_BLOCK, *matrix.shape)
    block = torch.randn(matrix.shape[1], columns, generator=generator, dtype=torch.float64)
    block, _ = torch.linalg.qr(block)
    gain = 0.0
    for _ in range(_MAX_ITERATIONS):
        left, _ = torch.linalg.qr(matrix @ block)
        block, triangle = torch.linalg.qr(matrix.T @ left)
        previous, gain = gain, float(torch.linalg.matrix_norm(triangle, 2))
        if abs(gain - previous) <= _CONVERGED * gain:
            break
    # matrix ≈ left triangleᵀ blockᵀ
    inner_left, singular, inner_right = torch.linalg.svd(triangle.T)
    return left @ inner_left[:, 0], float(singular[0]), block @ inner_right[0]
