"""Terms as the two factors of each module, which every format of LoRA adapters holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models_store.errors import InvalidRequest
from models_store.weights.architectures import Architecture
from models_store.weights.delta import DeltaTerm


@dataclass(frozen=True, eq=False)
class Factors:
    """The change `b @ a` of one module's weight."""

    a: np.ndarray
    """float32 `[rank, in]`: directions."""
    b: np.ndarray
    """float32 `[out, rank]`: coefficients times strengths."""


def lora_factors(
    terms: Sequence[tuple[DeltaTerm, float]],
    shapes: Mapping[str, tuple[int, int]],
    architecture: Architecture,
    *,
    ranks: Sequence[int] = (),
) -> dict[str, Factors]:
    """The factors of each module that the terms at their strengths change.

    All have the same rank, the largest number of terms of any module; the others are padded with
    zeros. So an adapter whose one alpha is that rank is scaled by 1 everywhere.

    Args:
        terms: with the strength of each; at least one.
        shapes: `(out, in)` by name of module, such as `model.layers.3.mlp.gate_proj`, as in the
            base model's files; fused modules have the fused size.
        architecture: of the base model.
        ranks: ascending; the ranks that the reader of the adapter accepts, if not all.

    Raises:
        InvalidRequest: a term is of a routed expert, which an adapter cannot reach, or does not fit
            the shapes.
    """
    modules: dict[str, list[tuple[DeltaTerm, float, int]]] = {}
    for term, strength in terms:
        module, first_row = _place(term, shapes, architecture)
        modules.setdefault(module, []).append((term, strength, first_row))
    rank = max((len(placed) for placed in modules.values()), default=0)
    if not rank:
        raise InvalidRequest("an adapter needs at least one term")
    rank = next((allowed for allowed in ranks if allowed >= rank), rank)
    return {module: _factors(placed, rank, *shapes[module]) for module, placed in modules.items()}


def _factors(
    placed: Sequence[tuple[DeltaTerm, float, int]], rank: int, out_features: int, in_features: int
) -> Factors:
    """The factors of one module from its terms, their strengths and the first rows."""
    a = np.zeros((rank, in_features), np.float32)
    b = np.zeros((out_features, rank), np.float32)
    for i, (term, strength, first_row) in enumerate(placed):
        a[i] = term.direction
        b[first_row + term.rows, i] = np.float32(strength) * term.coefficients
    return Factors(a, b)


def _place(
    term: DeltaTerm, shapes: Mapping[str, tuple[int, int]], architecture: Architecture
) -> tuple[str, int]:
    """The module that holds the term's matrix, and the matrix's first row in it."""
    if term.expert is not None:
        raise InvalidRequest("edits of routed experts cannot be exported as a LoRA adapter")
    slot = architecture.slot(term.key)
    module = architecture.tensor(term.key).removesuffix(".weight")
    if module not in shapes:
        raise InvalidRequest(f"the base model has no module {module}")
    out_features, in_features = shapes[module]
    rows = out_features if slot.part == "all" else out_features // 2
    if len(term.direction) != in_features or int(term.rows[-1]) >= rows:
        raise InvalidRequest(
            f"a term does not fit {module}, which is {out_features} × {in_features}"
        )
    return module, rows if slot.part == "second_half" else 0
