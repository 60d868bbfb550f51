"""Made-up edits for tests."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from models_store.weights.architectures import DOWN, GATE, OUTPUT, UP, MatrixKey
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import Term, make_term


def random_term(base: LoadedModel, key: MatrixKey, *, seed: int, rows: int = 5) -> Term:
    """A term on some rows of a matrix, large enough to be seen in the logits."""
    generator = torch.Generator().manual_seed(seed)
    out_features, in_features = base.matrix(key).shape
    return make_term(
        key,
        torch.randn(in_features, generator=generator) / in_features**0.5,
        torch.randperm(out_features, generator=generator)[:rows],
        torch.randn(min(rows, out_features), generator=generator),
    )


def random_edit(
    base: LoadedModel, *, seed: int = 0, modules: Sequence[str] = (GATE, UP, DOWN, OUTPUT)
) -> list[Term]:
    """A term on every matrix of these modules but those of routed experts."""
    keys = [key for key in base.architecture.matrices(*modules) if key.expert is None]
    return [random_term(base, key, seed=1000 * seed + i) for i, key in enumerate(keys)]
