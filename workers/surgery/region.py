"""The rows that an edit touches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models_store.errors import InvalidRequest

_CHUNK_ROWS = 4096
"""Rows looked at in fp64 at once: memory stays flat whatever the size of a matrix."""


@dataclass(frozen=True, eq=False)
class Region:
    """Rows chosen over all gates together."""

    rows: tuple[Tensor, ...]
    """One a gate, in the order the gates came: int64 `[chosen]`, ascending, maybe empty."""
    cosines: tuple[Tensor, ...]
    """fp64 `[chosen]` of these rows."""
    cut: float
    """The largest cosine that was chosen."""
    total_rows: int
    """Rows of all gates."""
    mean_row_norm: float
    """Over all rows of all gates."""

    @property
    def size(self) -> int:
        return sum(len(rows) for rows in self.rows)


def select_region(gates: Iterable[Tensor], direction: Tensor, fraction: float) -> Region:
    """Pick the gate rows that point most away from `direction`, over all gates together.

    A row with a strongly negative cosine fires on the opposite of the trait; strengthening it is
    what Model Surgery edits (arXiv 2407.08770, section 3.2). Cosines are computed in fp64; ties
    break by cosine, then gate, then row. A row of zeros has cosine 0.

    Args:
        gates: in order of layer, each `[intermediate, hidden]` in any float dtype on any device;
            read one by one.
        direction: `[hidden]`; its length does not matter.
        fraction: share of all rows to pick, in (0, 1].

    Raises:
        InvalidRequest: the direction is zero or not finite, or no row would be picked.
    """
    unit = direction.detach().cpu().double()
    length = unit.norm()
    if not bool(torch.isfinite(length)) or length == 0:
        raise InvalidRequest("the direction is zero or not finite: no row can point away from it")
    unit = unit / length
    cosines: list[Tensor] = []
    norm_sum = 0.0
    for gate in gates:
        parts = []
        for rows in torch.split(gate.detach(), _CHUNK_ROWS):
            wide = rows.double()
            norms = wide.norm(dim=1)
            norm_sum += float(norms.sum())
            dots = wide @ unit.to(wide.device)
            parts.append((dots / norms.clamp_min(torch.finfo(torch.float64).tiny)).cpu())
        cosines.append(torch.cat(parts))
    flat = torch.cat(cosines).numpy() if cosines else np.empty(0)
    count = round(fraction * len(flat))
    if not 0 < count <= len(flat):
        raise InvalidRequest(f"a fraction of {fraction} picks {count} of {len(flat)} rows")
    chosen = np.zeros(len(flat), dtype=bool)
    order = np.argsort(flat, kind="stable")
    chosen[order[:count]] = True
    masks = torch.split(torch.from_numpy(chosen), [len(part) for part in cosines])
    return Region(
        rows=tuple(mask.nonzero()[:, 0] for mask in masks),
        cosines=tuple(part[mask] for part, mask in zip(cosines, masks, strict=True)),
        cut=float(flat[order[count - 1]]),
        total_rows=len(flat),
        mean_row_norm=norm_sum / len(flat),
    )
