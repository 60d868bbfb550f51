"""Edits with random numbers and the size of real ones, and their memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from models_store.weights.architectures import DOWN, GATE, MatrixKey
from workers.surgery.terms import Term, make_term

SHAPE_7B = (4096, 11008, 32)
"""Hidden size, intermediate size and layers of a 7B model."""


def shift(hidden: int, intermediate: int, layers: Sequence[int], seed: int) -> list[Term]:
    """An edit of the size of `natural_bias` or `bias`: all rows of `down_proj` in some layers."""
    generator = torch.Generator().manual_seed(seed)
    return [
        make_term(
            MatrixKey(layer, DOWN),
            torch.randn(intermediate, generator=generator) / 100,
            torch.arange(hidden),
            torch.randn(hidden, generator=generator) / 100,
        )
        for layer in layers
    ]


def surgery(hidden: int, intermediate: int, layers: int, seed: int) -> list[Term]:
    """An edit of the size of `model_surgery`: 4.65 % of all gate rows, one direction."""
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(hidden, generator=generator) / 100
    rows = int(0.0465 * intermediate)
    return [
        make_term(
            MatrixKey(layer, GATE),
            direction,
            torch.randperm(intermediate, generator=generator)[:rows],
            torch.full((rows,), 1.08),
        )
        for layer in range(layers)
    ]


def held_bytes(edits: Sequence[Sequence[Term]]) -> int:
    """Bytes of the tensors of edits; shared storage counts once."""
    stores = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for terms in edits
        for term in terms
        for tensor in (term.direction, term.rows, term.coefficients)
    }
    return sum(stores.values())
