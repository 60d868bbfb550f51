"""Natural gradient of a bias, written into `down_proj` of many layers.

`bias` measures how hidden states differ between the two sides, this which shift of them changes
what the model says. Of one layer, with c a constant that is added to what its `down_proj` gives at
every token but a text's first:

    g = ∂/∂c (mean log p(desired) - mean log p(undesired))      within a text, then over texts
    F = E[q qᵀ],  q = ∂/∂c Σ log p(label) / √labels             neutral text, labels of the model
    r = (F + damping · mean diag F · I)⁻¹ g
    W_down += s · r aᵀ                                          with a of the method `bias`, or
                                                                with neutral text in it

½ s² rᵀ F r is what the shift of one layer costs in KL to the base, so among all shifts at the same
cost s · r gains the most, to first order. One scale goes for all layers: a layer's share is as
large as what it gains for its cost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from models_store.errors import EditFailed
from models_store.weights.architectures import DOWN, MatrixKey
from workers.surgery.fitted import FittedEdit, Readings
from workers.surgery.methods.natural_bias import NaturalBias
from workers.surgery.moments import Moment
from workers.surgery.regression import LayerCheck, Regression, layer_fit
from workers.surgery.terms import Term, make_term

_START_KL = 0.1
"""The KL that a first guess of a scale aims at."""


@dataclass(frozen=True)
class ShiftStep:
    """What one layer has to give."""

    layer: int
    gain: float
    """√(gᵀ r): first-order gain for each unit of the square root of twice the KL."""


@dataclass(frozen=True, eq=False)
class NaturalBiasFit:
    """Terms at scale 1, one a layer."""

    terms: tuple[Term, ...]
    steps: tuple[ShiftStep, ...]
    checks: tuple[LayerCheck, ...]
    guess: float
    """A scale to start the calibration from, on any model."""
    kl: float
    """What the curvature says that it costs at scale 1 where all tokens feel it, nats a token."""


def fit(readings: Readings, method: NaturalBias) -> FittedEdit:
    """The edit in all layers of the method.

    Raises:
        EditFailed: as `fit_natural_bias`.
    """
    layers = method.layers_in(readings.base.layers)
    own = readings["own shifts"] if method.source == "own" else {}
    gradients = own.get(method.answer_tokens, readings["shifts"][method.answer_tokens])
    fitted = fit_natural_bias(
        [layer_fit(readings, layer, method.ridge, method.neutral_weight) for layer in layers],
        gradients,
        readings["shift curvature"],
        damping=method.damping,
    )
    return candidate_of(fitted, method.type, method.model_copy(update={"layers": layers}).label)


def candidate_of(fitted: NaturalBiasFit, method: str, label: str) -> FittedEdit:
    return FittedEdit(
        method=method,
        label=label,
        terms=fitted.terms,
        guess=fitted.guess,
        details={
            "layers": [asdict(check) for check in fitted.checks],
            "steps": [asdict(step) for step in fitted.steps],
        },
    )


def fit_natural_bias(
    layers: Sequence[Regression],
    gradients: Mapping[int, Tensor],
    curvature: Mapping[int, Moment],
    *,
    damping: float,
) -> NaturalBiasFit:
    """Solve for the shift of every layer that leaves first tokens alone.

    Args:
        layers: where each of them feels the shift; as the method `bias` has it, or another.
        gradients: g by layer, `[hidden]`.
        curvature: F by layer.
        damping: as a share of the mean of F's diagonal.

    Raises:
        EditFailed: no layer can be written into, or nothing would change.
    """
    terms: list[Term] = []
    steps: list[ShiftStep] = []
    cost = 0.0
    for layer in layers:
        number = layer.check.layer
        gradient = gradients[number].double()
        if not layer.check.used:
            continue
        factor = curvature[number].damped(damping)
        shift = factor.unwhiten(factor.whiten(gradient[:, None])[:, 0])
        gain = float(gradient @ shift)
        if not 0 < gain < math.inf:
            continue
        rows = torch.arange(len(shift))
        terms.append(make_term(MatrixKey(number, DOWN), layer.vector, rows, shift))
        steps.append(ShiftStep(number, gain**0.5))
        cost += curvature[number].quadratic(shift) ** 0.5
    checks = tuple(layer.check for layer in layers)
    if not terms:
        raise EditFailed(
            "no layer can be written into: either nothing changes what the model says of the two "
            "sides, or first tokens would move"
        )
    # The shifts of all layers push the same way, so their costs add up before they are squared.
    kl = cost**2 / 2
    return NaturalBiasFit(tuple(terms), tuple(steps), checks, math.sqrt(_START_KL / kl), kl)
