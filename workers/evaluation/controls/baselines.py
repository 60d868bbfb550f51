"""Baselines of an edit that are deltas, scaled until they are as far from the base as it is.

- random direction: the vector of each term that carries the behaviour (its method says which) is
  replaced by a Gaussian one of the same norm, the same one wherever terms share it;
- permuted labels: the edit's own methods fitted on texts that were dealt to the sides at random;
- random region: as many rows of each matrix, drawn at random; for terms that do not have them all;
- the paper's method: Model Surgery (arXiv 2407.08770) fitted on the same texts, with a probe that
  has converged at the edit's KL, and with the paper's own settings at its alpha.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Literal, Protocol

import torch
from torch import Tensor

from models_store.schemas.measurements import ControlKind, ProbeKind
from models_store.schemas.methods import METHODS
from models_store.weights.architectures import DOWN, OUTPUT, SHARED_DOWN
from workers import progress
from workers.runtime.loading import LoadedModel
from workers.surgery.calibrate import Scales
from workers.surgery.terms import Term, make_term, scaled

TOLERANCE = 0.10
"""Relative difference of KL up to which edit and baseline count as equally large."""
MAX_EVALUATIONS = 6
_RESIDUAL = frozenset({DOWN, SHARED_DOWN, OUTPUT})
"""Matrices that write to the residual stream."""
PAPER_METHOD = "model_surgery"
"""It is no baseline of itself."""

RandomKind = Literal["random_direction", "random_region"]
BaselineKind = Literal[
    "random_direction", "permuted_labels", "random_region", "paper_alpha", "paper_equal_kl"
]
"""Controls that are deltas: all but the prompt."""
PROBES: Mapping[ControlKind, ProbeKind] = {"paper_alpha": "paper", "paper_equal_kl": "converged"}
"""Of the paper's method. On a few hundred texts the paper's own settings leave the probe near its
random start, so a converged one is the rival that counts."""
PaperMethod = Mapping[ProbeKind, Sequence[Term]]
"""Model Surgery fitted on the texts that the edit was fitted on, by its probe: `paper` at the
paper's alpha, `converged` at any."""
PermutedFit = Callable[[int], Sequence[Term] | None]
"""Fits the edit's methods on labels permuted by a seed; each part gets the norm that it has in the
edit. None: there is nothing that they could write."""
PERMUTED_TEXTS = 100
"""That are read for it, at most."""


class Meter(Protocol):
    """What measures how far a delta is from the base."""

    def kl(self, terms: Sequence[Term], strength: float = 1.0) -> float:
        """In nats a token, infinite for a model that no longer computes."""
        ...


def equal(kl: float, target_kl: float) -> bool:
    """Whether a baseline's KL counts as that of the edit."""
    return abs(kl - target_kl) <= TOLERANCE * target_kl


@dataclass(frozen=True, eq=False)
class Baseline:
    """A control as it meets the prompts, and how far it is from the base."""

    kind: ControlKind
    terms: Sequence[Term]
    scale: float
    """What its terms were multiplied by."""
    kl: float
    target_kl: float | None
    """The edit's own; None where it is not matched."""
    evaluations: int
    """KL measurements that it took."""
    draw: int = 0

    @property
    def matched(self) -> bool:
        return self.target_kl is not None and equal(self.kl, self.target_kl)


def random_directions(terms: Sequence[Term], method: str, generator: torch.Generator) -> list[Term]:
    """Replace the vector of each term that carries the behaviour by noise of the same norm.

    Args:
        method: that made the terms; of two together, such as `natural+bias`.
    """
    drawn: dict[bytes, Tensor] = {}
    made = []
    for term in terms:
        if _carrier(term, method) == "coefficients":
            noise = _gaussian_like(term.coefficients, generator)
            made.append(replace(term, coefficients=noise))
            continue
        key = term.direction.numpy().tobytes()
        if key not in drawn:
            drawn[key] = _gaussian_like(term.direction, generator)
        made.append(replace(term, direction=drawn[key]))
    return made


def chooses_rows(base: LoadedModel, terms: Sequence[Term]) -> bool:
    """Whether an edit picks some rows of a matrix, so that others could have been picked."""
    return any(len(term.rows) < len(base.matrix(term.key)) for term in terms)


def random_region(
    base: LoadedModel, terms: Sequence[Term], generator: torch.Generator
) -> list[Term]:
    """Move each term to as many rows of its matrix drawn at random."""
    made = []
    for term in terms:
        rows = torch.randperm(len(base.matrix(term.key)), generator=generator)[: len(term.rows)]
        # A term with all rows stays as it is: to shuffle what it writes is another control.
        whole = len(rows) == len(base.matrix(term.key))
        made.append(term if whole else make_term(term.key, term.direction, rows, term.coefficients))
    return made


def draw(
    base: LoadedModel, kind: RandomKind, terms: Sequence[Term], method: str, seed: int
) -> list[Term]:
    """A random baseline of the edit, not scaled yet."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "random_region":
        return random_region(base, terms, generator)
    return random_directions(terms, method, generator)


def at_equal_kl(
    kind: BaselineKind,
    terms: Sequence[Term],
    meter: Meter,
    target_kl: float,
    *,
    number: int = 0,
) -> Baseline | None:
    """Scale a baseline to the edit's KL, or as near to it as six measurements come.

    Args:
        meter: measures on calibration texts.
        target_kl: the edit's own, by the same meter; positive.
        number: of the draw.

    Returns:
        None where no factor that was tried leaves a model that computes.
    """
    scales = equal_kl_scales(target_kl)
    for scale in scales:
        with progress.step("scale", 1 / MAX_EVALUATIONS):
            scales.measured(meter.kl(terms, scale))
    scale, kl = scales.nearest()
    if not isfinite(kl):
        return None
    return Baseline(kind, scaled(terms, scale), scale, kl, target_kl, len(scales.trace), number)


def equal_kl_scales(target_kl: float, *, guess: float = 1.0) -> Scales:
    """At most six scales to measure, until one has a KL."""
    return Scales(target_kl, guess=guess, tolerance=TOLERANCE, max_steps=MAX_EVALUATIONS)


def as_it_is(kind: BaselineKind, terms: Sequence[Term], meter: Meter) -> Baseline | None:
    """A baseline that is not scaled; None where its model no longer computes."""
    kl = meter.kl(terms)
    return Baseline(kind, terms, 1.0, kl, None, 1) if isfinite(kl) else None


def _carrier(term: Term, method: str) -> str:
    """The method of a pair that a term is of is the one that writes to its matrix; of a term by no
    method it is what it adds to the residual stream, if it does, and else what it looks for."""
    parts = [METHODS[name] for name in method.split("+") if name in METHODS]
    of_nobody = "coefficients" if term.module in _RESIDUAL else "direction"
    return next((part.carrier for part in parts if term.module in part.modules), of_nobody)


def _gaussian_like(vector: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(vector.shape, generator=generator)
    drawn *= vector.norm() / drawn.norm()
    return drawn
