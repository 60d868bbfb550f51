"""Model Surgery (Wang et al., arXiv 2407.08770).

    W_gate[rows, :] += alpha · W_probe[undesired]

for the rows of all gates whose cosine to the probe's direction is lowest.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models_store.errors import InvalidRequest
from models_store.weights.architectures import MatrixKey
from workers.surgery.fitted import FittedEdit, Readings
from workers.surgery.methods.model_surgery import ModelSurgery
from workers.surgery.probe import ProbeSettings
from workers.surgery.region import Region, select_region
from workers.surgery.terms import Term, make_term

PAPER_ALPHA = 1.0
"""The paper has 1.08 for detoxification and 1 otherwise."""
USUAL_RELATIVE_ALPHA = 0.6
"""Of an edit by a converged probe at scale 1, from where it is calibrated: SmolLM2 then has a KL of
about 0.09."""


def fit(readings: Readings, method: ModelSurgery) -> FittedEdit:
    """The rows of all gates that point most away from the probe's direction, moved along it."""
    base = readings.base
    direction = readings.probe(ProbeSettings(**method.probe_settings)).direction
    keys = list(base.architecture.gates())
    region = select_region(map(base.matrix, keys), direction, method.fraction)
    alpha = _alpha(method, direction, region)
    return FittedEdit(
        method=method.type,
        label=method.label,
        terms=terms_from(keys, region, direction, alpha),
        guess=1.0,
        details={
            "rows": region.size,
            "total_rows": region.total_rows,
            "cut": region.cut,
            "mean_row_norm": region.mean_row_norm,
        },
        alpha=alpha,
        relative_alpha=relative_alpha(alpha, direction, region),
    )


def _alpha(method: ModelSurgery, direction: Tensor, region: Region) -> float:
    if method.alpha is not None:
        return method.alpha
    if method.relative_alpha is not None:
        return absolute_alpha(method.relative_alpha, direction, region)
    if method.probe == "paper":
        return PAPER_ALPHA
    return absolute_alpha(USUAL_RELATIVE_ALPHA, direction, region)


def relative_alpha(alpha: float, direction: Tensor, region: Region) -> float:
    """`alpha · ‖direction‖ / mean norm of all gate rows`: means the same on every model."""
    return alpha * float(direction.norm()) / region.mean_row_norm


def absolute_alpha(relative: float, direction: Tensor, region: Region) -> float:
    """The alpha whose relative alpha is `relative`."""
    return relative * region.mean_row_norm / float(direction.norm())


def terms_from(
    keys: Sequence[MatrixKey], region: Region, direction: Tensor, alpha: float
) -> list[Term]:
    """One term for every gate of which rows were chosen; they share one direction tensor.

    Args:
        keys: of the gates, in the order in which the region was selected over them.
        direction: `[hidden]`, the probe's W[undesired] as it is.
        alpha: the factor of every row.

    Raises:
        InvalidRequest: alpha or the direction is not finite.
    """
    if len(keys) != len(region.rows):
        raise InvalidRequest(f"{len(keys)} gates, but a region over {len(region.rows)}")
    vector = direction.detach().to("cpu", torch.float32).clone()
    return [
        make_term(key, vector, rows, torch.full((len(rows),), alpha))
        for key, rows in zip(keys, region.rows, strict=True)
        if len(rows)
    ]
