"""Rows of the gates that the gradient says matter, moved along a whitened difference of means.

The form is Model Surgery's, one direction added to a few rows of every gate, but both come from
what an edit does and costs. Of the gate W of one layer, with x its input, A = E[x xᵀ] and
S = E[g gᵀ] on neutral text (`workers.surgery.curvature`):

    G = ∂/∂W (mean log p(desired) - mean log p(undesired))              a token
    v = (A + damping · mean diag · I)⁻¹ (mean(x | undesired) - mean(x | desired))
    score of row j = (G v)_j² / (S_jj · vᵀ A v)
    W[j, :] += s · sign((G v)_j) · v      for the rows with the largest scores over all gates

v · x is large where a text is like the undesired ones. A row's score is what moving it along v
gains to first order, squared, for what it costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from models_store.errors import EditFailed
from models_store.weights.architectures import MatrixKey
from workers.surgery.candidate import Candidate, Readings
from workers.surgery.curvature import Curvature, first_scale
from workers.surgery.methods.attribution import Attribution
from workers.surgery.rows import largest_rows
from workers.surgery.terms import Term, make_term

DEFAULT_DAMPING = 0.05
DEFAULT_FRACTION = 0.0465


@dataclass(frozen=True, eq=False)
class AttributionFit:
    """Terms at scale 1, one for every gate of which rows were chosen."""

    terms: tuple[Term, ...]
    rows: int
    """Rows that were chosen."""
    total_rows: int
    guess: float
    """A scale to start the calibration from, on any model."""


def fit(readings: Readings, method: Attribution) -> Candidate:
    """The edit of the rows that matter.

    Raises:
        InvalidRequest, EditFailed: as `fit_attribution`.
    """
    gates = readings["gates"]
    fitted = fit_attribution(
        gates.gradients,
        readings["curvature"],
        gates.undesired,
        gates.desired,
        damping=method.damping,
        fraction=method.fraction,
    )
    return Candidate(
        method=method.type,
        label=method.label,
        terms=fitted.terms,
        guess=fitted.guess,
        details={"rows": fitted.rows, "total_rows": fitted.total_rows},
    )


def fit_attribution(
    gradients: Mapping[MatrixKey, Tensor],
    curvature: Mapping[MatrixKey, Curvature],
    means_undesired: Mapping[MatrixKey, Tensor],
    means_desired: Mapping[MatrixKey, Tensor],
    *,
    damping: float = DEFAULT_DAMPING,
    fraction: float = DEFAULT_FRACTION,
) -> AttributionFit:
    """Choose rows over all gates together and move them along their gate's direction.

    Args:
        gradients: G of each gate, `[out, in]`.
        curvature: of these gates, maybe of more.
        means_undesired: mean inputs of these gates, `[in]`.
        means_desired: the same of the other side.
        damping: of the whitening, as a share of the mean of A's diagonal.
        fraction: share of all rows of these gates.

    Raises:
        EditFailed: a gradient or a mean is not finite, or the two sides have the same means.
        InvalidRequest: no row would be chosen.
    """
    directions: dict[MatrixKey, Tensor] = {}
    gains: dict[MatrixKey, Tensor] = {}
    scores: dict[MatrixKey, Tensor] = {}
    for key in sorted(gradients, key=lambda key: key.order):
        factors = curvature[key]
        difference = means_undesired[key].double() - means_desired[key].double()
        factor = factors.inputs.damped(damping)
        directions[key] = factor.unwhiten(factor.whiten(difference[:, None])[:, 0])
        gains[key] = gradients[key].double() @ directions[key]
        if not bool(torch.isfinite(gains[key]).all()):
            raise EditFailed("the gradients or the means of inputs at a gate are not finite")
        spent = factors.outputs.diagonal * factors.inputs.quadratic(directions[key])
        scores[key] = gains[key].square() / spent.clamp_min(torch.finfo(torch.float64).tiny)
    if not any(bool((gained > 0).any()) for gained in scores.values()):
        raise EditFailed("no row of a gate gains anything: both sides have the same means")
    chosen = largest_rows(scores, fraction)
    terms = tuple(
        make_term(key, directions[key], rows, gains[key][rows].sign())
        for key, rows in chosen.items()
        if len(rows)
    )
    return AttributionFit(
        terms=terms,
        rows=sum(map(len, chosen.values())),
        total_rows=sum(map(len, scores.values())),
        guess=first_scale(terms, curvature),
    )
