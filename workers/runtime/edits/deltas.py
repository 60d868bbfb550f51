"""Between terms in memory and deltas in the store."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from models_store.weights.delta import Delta, DeltaTerm
from workers.surgery.terms import Mixture, Term, canonical, make_term


def to_delta(terms: Iterable[Term], base_fingerprint: str, method: str) -> Delta:
    """The terms as a delta, in canonical order; terms without rows change nothing and are left out.

    Args:
        base_fingerprint: of the weights that the terms were fitted on.
        method: name of the method that made them.
    """
    return Delta(
        base_fingerprint,
        method,
        tuple(
            DeltaTerm(
                layer=term.layer,
                module=term.module,
                expert=term.expert,
                direction=term.direction.numpy(),
                rows=term.rows.numpy().astype(np.int32),
                coefficients=term.coefficients.numpy(),
            )
            for term in canonical(terms)
            if term.rows.numel()
        ),
    )


def stored_terms(mixture: Mixture, base_fingerprint: str) -> list[tuple[DeltaTerm, float]]:
    """The terms of all edits as they are stored, with their strengths."""
    return [
        (term, strength)
        for edit, strength in mixture
        for term in to_delta(edit, base_fingerprint, "").terms
    ]


def from_delta(delta: Delta) -> list[Term]:
    """The delta's terms; a direction that several share stays one tensor in memory."""
    directions: dict[bytes, torch.Tensor] = {}
    terms = []
    for term in delta.terms:
        # Copies: arrays read from a file may be read-only, which torch warns about.
        direction = directions.setdefault(term.direction.tobytes(), torch.tensor(term.direction))
        rows, coefficients = torch.tensor(term.rows), torch.tensor(term.coefficients)
        terms.append(make_term(term.key, direction, rows, coefficients))
    return terms
