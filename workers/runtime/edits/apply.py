"""Write edits into the weights of a base model, and take them out again to the last bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from models_store.errors import InvalidRequest
from models_store.weights.architectures import MatrixKey
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import Mixture, WeightedTerm, by_matrix, change, flatten, union_of_rows


class WeightEditor:
    """Sets the weights of a base model to pristine + Σ s · c · v; one editor a model.

    Every row is computed from its pristine value, saved before the first change: new row =
    round once(fp32(pristine) + Σ s·c·v in fp32, terms in canonical order). So what was applied
    before leaves no trace, the order of edits does not matter, and taking all of them away
    restores the very bits.
    """

    def __init__(self, base: LoadedModel) -> None:
        self.base = base
        self._pristine: dict[MatrixKey, tuple[Tensor, Tensor]] = {}
        """By matrix: rows that an edit has touched, ascending, and their weights before any."""
        self._changed: set[MatrixKey] = set()

    @torch.no_grad()
    def apply_(self, mixture: Mixture) -> None:
        """Make the weights those of the base with this mixture, whatever was applied before.

        Raises:
            InvalidRequest: a term does not fit the model; the weights are then as before.
        """
        wanted = by_matrix(flatten(mixture))
        check_fit(self.base, wanted)
        self.restore_()
        for key, weighted in wanted.items():
            matrix = self.base.matrix(key)
            rows = union_of_rows(weighted)
            pristine = self._save(key, matrix, rows)
            # fp64 models (used to judge the others) keep their precision.
            wide = torch.promote_types(matrix.dtype, torch.float32)
            added = change(weighted, rows, wide).to(matrix.device)
            self._changed.add(key)
            matrix[rows.to(matrix.device)] = (pristine.to(wide) + added).to(matrix.dtype)

    @torch.no_grad()
    def restore_(self) -> None:
        """Make the weights those of the base model, bit by bit."""
        for key in sorted(self._changed, key=lambda key: key.order):
            rows, pristine = self._pristine[key]
            matrix = self.base.matrix(key)
            matrix[rows.to(matrix.device)] = pristine
        self._changed.clear()

    @contextmanager
    def applied(self, mixture: Mixture) -> Iterator[None]:
        """The mixture for the length of a `with` block, the base model after it."""
        self.apply_(mixture)
        try:
            yield
        finally:
            self.restore_()

    def _save(self, key: MatrixKey, matrix: Tensor, rows: Tensor) -> Tensor:
        """The pristine weights of `rows`; the matrix must be pristine now. Returns `[k, in]`."""
        saved, _ = self._pristine.get(key, (rows[:0], matrix[:0]))
        every = torch.unique(torch.cat([saved, rows]))
        if len(every) > len(saved):
            self._pristine[key] = (every, matrix[every.to(matrix.device)].clone())
        pristine, weights = self._pristine[key]
        return weights[torch.searchsorted(pristine, rows).to(weights.device)]


def check_fit(base: LoadedModel, wanted: Mapping[MatrixKey, Sequence[WeightedTerm]]) -> None:
    """Check that the model has every matrix, row and column that the terms name.

    Raises:
        InvalidRequest: it has not.
    """
    for key, weighted in wanted.items():
        out_features, in_features = base.matrix(key).shape
        for term, _ in weighted:
            if len(term.direction) != in_features:
                raise InvalidRequest(
                    f"a direction of length {len(term.direction)} does not fit {key.module} "
                    f"of layer {key.layer}, which reads {in_features} values"
                )
            if term.rows.numel() and int(term.rows[-1]) >= out_features:
                raise InvalidRequest(
                    f"row {int(term.rows[-1])} is outside {key.module} of layer {key.layer}, "
                    f"which has {out_features} rows"
                )
