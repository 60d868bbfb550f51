"""A term: one rank-one change of some rows of one matrix, `W[rows, :] += s · c[:, None] · v`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from models_store.errors import InvalidRequest
from models_store.weights.architectures import MatrixKey


@dataclass(frozen=True, eq=False)
class Term:
    """One term of a delta; all tensors are on the CPU.

    Two terms are the same change when their `digest`s are equal.
    """

    layer: int
    module: str
    """Logical name, such as `mlp.gate_proj`."""
    expert: int | None
    direction: Tensor
    """`v`, fp32 `[in]`."""
    rows: Tensor
    """`R`, int64 `[k]`, ascending, rows of the logical matrix."""
    coefficients: Tensor
    """`c`, fp32 `[k]`."""

    @property
    def key(self) -> MatrixKey:
        return MatrixKey(self.layer, self.module, self.expert)

    @property
    def nbytes(self) -> int:
        """Of the direction and the coefficients; lists of rows are mostly shared."""
        return self.direction.nbytes + self.coefficients.nbytes

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that the term is, in hex."""
        digest = hashlib.sha256(repr(tuple(self.key)).encode())
        for tensor in (self.direction, self.rows, self.coefficients):
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()


WeightedTerm = tuple[Term, float]
Mixture = Sequence[tuple[Sequence[Term], float]]
"""Edits applied together: the terms of each, and its strength."""


def make_term(
    key: MatrixKey,
    direction: Tensor,
    rows: Tensor,
    coefficients: Tensor,
) -> Term:
    """A term with its tensors in the one form that all code expects, rows sorted.

    Args:
        direction: `[in]`, any float dtype and device.
        rows: `[k]`, no row twice.
        coefficients: `[k]`, of the rows in the order given.

    Raises:
        InvalidRequest: the shapes do not fit, a row is repeated or a value is not finite.
    """
    if direction.dim() != 1 or rows.dim() != 1 or rows.shape != coefficients.shape:
        raise InvalidRequest(
            f"a term needs a vector as direction and one coefficient a row, not shapes "
            f"{tuple(direction.shape)}, {tuple(rows.shape)} and {tuple(coefficients.shape)}"
        )
    ordered, order = torch.sort(rows.detach().to("cpu", torch.int64))
    if ordered.numel() and (int(ordered[0]) < 0 or bool((ordered.diff() == 0).any())):
        raise InvalidRequest("the rows of a term must be different and not negative")
    vector = direction.detach().to("cpu", torch.float32).contiguous()
    factors = coefficients.detach().to("cpu", torch.float32)[order]
    if not bool(torch.isfinite(vector).all() and torch.isfinite(factors).all()):
        raise InvalidRequest("the values of a term must be finite")
    return Term(key.layer, key.module, key.expert, vector, *_compact(ordered, factors))


def _compact(rows: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """The same values in less memory: many edits are held at once.

    Terms of whole matrices share one list of rows, and a single value stands for coefficients
    that are all alike, as those of Model Surgery are.
    """
    if rows.numel() and int(rows[-1]) == len(rows) - 1:
        rows = _first_rows(len(rows))
    if rows.numel() and bool((coefficients == coefficients[0]).all()):
        coefficients = coefficients[:1].clone().expand(len(rows))
    return rows, coefficients


@lru_cache(maxsize=64)
def _first_rows(count: int) -> Tensor:
    return torch.arange(count)


def canonical(terms: Iterable[Term]) -> list[Term]:
    """Terms by layer, module, expert and content: an order that nobody's history changes."""
    return sorted(terms, key=lambda term: (term.key.order, term.digest))


def scaled(terms: Iterable[Term], factor: float) -> list[Term]:
    """The terms with every coefficient multiplied by `factor`."""
    return [replace(term, coefficients=term.coefficients * factor) for term in terms]


def flatten(mixture: Mixture) -> list[WeightedTerm]:
    """The terms of all edits of a mixture with their strengths, in canonical order.

    Terms of strength 0 change nothing and are left out, so that a mixture of them is the base.
    """
    weighted = [(term, float(s)) for terms, s in mixture for term in terms if s != 0]
    return sorted(weighted, key=lambda pair: (pair[0].key.order, pair[0].digest, pair[1]))


def folded(mixture: Mixture) -> list[Term]:
    """The terms of all edits of a mixture, with their strengths in the coefficients."""
    return [
        replace(term, coefficients=term.coefficients * strength)
        for term, strength in flatten(mixture)
    ]


def by_matrix(weighted: Iterable[WeightedTerm]) -> Mapping[MatrixKey, list[WeightedTerm]]:
    """Group terms by the matrix they change; the order within a group is kept."""
    groups: dict[MatrixKey, list[WeightedTerm]] = {}
    for term, strength in weighted:
        groups.setdefault(term.key, []).append((term, strength))
    return groups


def union_of_rows(weighted: Iterable[WeightedTerm]) -> Tensor:
    """All rows that any of the terms touches, int64, ascending."""
    rows: Tensor = torch.unique(torch.cat([term.rows for term, _ in weighted]))
    return rows


def change(weighted: Sequence[WeightedTerm], rows: Tensor, dtype: torch.dtype) -> Tensor:
    """`Σ s · c[:, None] · v` of terms of one matrix, `[len(rows), in]` in `dtype`.

    Args:
        weighted: at least one; summed in the order given.
        rows: ascending; holds every row of every term.
    """
    total = torch.zeros(len(rows), len(weighted[0][0].direction), dtype=dtype)
    for term, strength in weighted:
        factors = strength * term.coefficients.to(dtype)
        part = factors[:, None] * term.direction.to(dtype)
        if len(term.rows) == len(rows):
            total += part
        else:
            total.index_add_(0, torch.searchsorted(rows, term.rows), part)
    return total


def dense(term: Term, out_features: int) -> Tensor:
    """The coefficients scattered over all rows of the matrix, fp32 `[out_features]`."""
    return torch.zeros(out_features).index_copy_(0, term.rows, term.coefficients)
