"""Rows chosen by a score, over all matrices together."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from models_store.errors import InvalidRequest
from models_store.weights.architectures import MatrixKey


def largest_rows(scores: Mapping[MatrixKey, Tensor], fraction: float) -> Mapping[MatrixKey, Tensor]:
    """The rows with the largest scores; of equal ones those that come first.

    Args:
        scores: by matrix, one a row.
        fraction: share of all rows to pick, in (0, 1].

    Returns:
        int64 `[chosen]` by matrix, ascending, maybe empty.

    Raises:
        InvalidRequest: no row would be picked.
    """
    flat = torch.cat(list(scores.values()))
    count = round(fraction * len(flat))
    if not 0 < count <= len(flat):
        raise InvalidRequest(f"a fraction of {fraction} picks {count} of {len(flat)} rows")
    chosen = torch.zeros(len(flat), dtype=torch.bool)
    chosen[torch.argsort(flat, descending=True, stable=True)[:count]] = True
    masks = torch.split(chosen, [len(score) for score in scores.values()])
    return {key: mask.nonzero()[:, 0] for key, mask in zip(scores, masks, strict=True)}
