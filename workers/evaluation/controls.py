"""Rivals of an edit that should do less: the same shape and size, aimed at nothing.

- random direction: the vector of each term that carries the behaviour is replaced by a Gaussian
  one of the same norm, the same one wherever terms share it;
- random region: as many rows of each matrix, drawn at random; for methods that choose rows.

Both are scaled until they are as far from the base as the edit is, in KL on the same texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from models_store.errors import EditFailed
from workers.evaluation.neutral import KlMeter
from workers.evaluation.progress import Progress
from workers.runtime.loading import BaseModel
from workers.surgery.calibrate import calibrate
from workers.surgery.methods import METHODS
from workers.surgery.terms import Term, make_term, scaled

Kind = Literal["random_direction", "random_region"]
TOLERANCE = 0.10
"""Relative difference of KL up to which edit and rival count as equally large."""
MAX_EVALUATIONS = 6

Redraw = Callable[[Sequence[Term], torch.Generator], list[Term]]


@dataclass(frozen=True, eq=False)
class Rival:
    """A control, scaled to the edit's KL as nearly as could be."""

    kind: Kind
    terms: Sequence[Term]
    scale: float
    kl: float
    target_kl: float
    evaluations: int
    """KL measurements that it took."""

    @property
    def matched(self) -> bool:
        return abs(self.kl - self.target_kl) <= TOLERANCE * self.target_kl


def random_input_directions(terms: Sequence[Term], generator: torch.Generator) -> list[Term]:
    """Redraw the input side `v`, for methods whose behaviour is in it."""
    drawn: dict[bytes, Tensor] = {}
    made = []
    for term in terms:
        key = term.direction.numpy().tobytes()
        if key not in drawn:
            drawn[key] = _gaussian_like(term.direction, generator)
        made.append(replace(term, direction=drawn[key]))
    return made


def random_output_directions(terms: Sequence[Term], generator: torch.Generator) -> list[Term]:
    """Redraw the output side `c`, for methods whose behaviour is in it."""
    return [
        replace(term, coefficients=_gaussian_like(term.coefficients, generator)) for term in terms
    ]


def random_region(base: BaseModel, terms: Sequence[Term], generator: torch.Generator) -> list[Term]:
    """Move each term to as many rows of its matrix drawn at random."""
    made = []
    for term in terms:
        rows = torch.randperm(len(base.matrix(term.key)), generator=generator)[: len(term.rows)]
        made.append(make_term(term.key, term.direction, rows, term.coefficients))
    return made


_REDRAW: Mapping[str, Redraw] = {
    "direction": random_input_directions,
    "coefficients": random_output_directions,
}


def kinds_for(method: str, wanted: Sequence[Kind]) -> list[Kind]:
    """The controls among `wanted` that mean something for a method."""
    return [kind for kind in wanted if kind != "random_region" or METHODS[method].chooses_rows]


def make_rival(
    base: BaseModel,
    kind: Kind,
    method: str,
    terms: Sequence[Term],
    meter: KlMeter,
    *,
    target_kl: float,
    seed: int,
    progress: Progress,
) -> Rival:
    """Draw a control and scale it to the edit's KL.

    Args:
        meter: measures on calibration texts.
        target_kl: the edit's own, by the same meter; positive.
    """
    generator = torch.Generator().manual_seed(seed)
    if kind == "random_region":
        drawn = random_region(base, terms, generator)
    else:
        drawn = _REDRAW[METHODS[method].carrier](terms, generator)
    tried: list[tuple[float, float]] = []

    def kl(scale: float) -> float:
        tried.append((scale, meter.kl(drawn, scale)))
        progress(len(tried) / MAX_EVALUATIONS)
        return tried[-1][1]

    # A search that stays above the target still leaves its nearest point in `tried`.
    with suppress(EditFailed):
        calibrate(kl, target_kl, guess=1.0, tolerance=TOLERANCE, max_steps=MAX_EVALUATIONS)
    scale, nearest = min(tried, key=lambda point: abs(point[1] - target_kl))
    return Rival(kind, scaled(drawn, scale), scale, nearest, target_kl, len(tried))


def _gaussian_like(vector: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(vector.shape, generator=generator)
    drawn *= vector.norm() / drawn.norm()
    return drawn
