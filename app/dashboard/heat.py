"""Where an edit writes: a strip of cells, one a layer, for each kind of matrix."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from math import hypot

from models_store.schemas.report import Report


@dataclass(frozen=True)
class Cell:
    layer: int
    norm: float
    """Frobenius norm of all that is written there; 0 for nothing."""
    heat: float
    """Norm over the largest one, in [0, 1]."""
    rows: int


@dataclass(frozen=True)
class Strip:
    module: str
    cells: tuple[Cell, ...]
    """By layer."""


def heat_strip(report: Report, layers: int | None) -> tuple[Strip, ...]:
    """A strip for each kind of matrix that the edit writes to.

    Args:
        layers: of the base model; None where it is not known: up to the last that is written to.
    """
    norms: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    rows: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for term in report.method.terms:
        # Terms of one matrix may overlap: this bounds the norm of their sum only loosely.
        norms[term.module][term.layer] = hypot(norms[term.module][term.layer], term.norm)
        rows[term.module][term.layer] += term.rows
    count = max([layers or 0, *(1 + layer for by in norms.values() for layer in by)], default=0)
    most = max((norm for by in norms.values() for norm in by.values()), default=0.0) or 1.0
    return tuple(
        Strip(
            module,
            tuple(
                Cell(
                    layer,
                    norm := by_layer.get(layer, 0.0),
                    round(norm / most, 3),
                    rows[module].get(layer, 0),
                )
                for layer in range(count)
            ),
        )
        for module, by_layer in sorted(norms.items())
    )
