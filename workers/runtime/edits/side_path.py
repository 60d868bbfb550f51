"""Serve different edits in the rows of one batch, beside weights that stay as they are.

For a touched linear layer y = x Wᵀ, the row b of the batch gets

    y_b += ((x_b V) ∘ coef_b) M

with V `[in, E]` the directions of all E terms in the batch, M `[E, out]` their coefficients
scattered over the rows, and coef_b `[E]` the strengths that row b has them at (0 for the others').
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from workers.runtime.edits.apply import check_fit
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import Mixture, Term, by_matrix, dense, flatten

_CACHED_BYTES = 512 * 2**20
"""Of terms that are kept as the model needs them: dense, in its dtype, on its device. Those of the
newest mixtures are kept even if they are more."""


@dataclass(frozen=True, eq=False)
class _Piece:
    """One term as its linear layer needs it, in the layer's dtype."""

    direction: Tensor
    """`[in]`, of unit length: half precision would lose very short ones."""
    output: Tensor
    """`[out]`."""

    @property
    def nbytes(self) -> int:
        return self.direction.nbytes + self.output.nbytes


@dataclass(frozen=True, eq=False)
class _Terms:
    """The terms of one linear layer."""

    digests: Sequence[str]
    directions: Tensor
    """`[in, E]`."""
    outputs: Tensor
    """`[E, out]`."""


@dataclass(frozen=True, eq=False)
class _Stack:
    """The terms of one linear layer that a batch needs."""

    directions: Tensor
    """`[in, E]`."""
    outputs: Tensor
    """`[E, out]`."""
    factors: Tensor
    """`[rows, 1, E]`: the strength of each term in each row."""


class RowPlan:
    """What each row of a batch adds to which layer; follows the batch when rows leave it."""

    def __init__(self, stacks: dict[nn.Module, _Stack]) -> None:
        self._stacks = stacks

    @property
    def modules(self) -> list[nn.Module]:
        return list(self._stacks)

    def select_(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order; int64 `[kept]`."""
        self._stacks = {
            module: replace(stack, factors=stack.factors[rows.to(stack.factors.device)])
            for module, stack in self._stacks.items()
        }

    def add(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """Forward hook: add the terms to the output of `module`."""
        stack = self._stacks[module]
        factors = stack.factors
        if inputs[0].dim() == 3 and len(factors) not in (1, len(inputs[0])):
            raise ValueError(f"a batch of {len(inputs[0])} rows, but mixtures for {len(factors)}")
        # Sparse layers flatten [rows, length, in] to two dimensions: undone here.
        x = inputs[0].reshape(len(factors), -1, inputs[0].shape[-1])
        hidden = (x @ stack.directions) * factors
        flat = output.reshape(-1, output.shape[-1])
        added = torch.addmm(flat, hidden.reshape(-1, hidden.shape[-1]), stack.outputs)
        return added.view(output.shape)


class SidePath:
    """Runs a base model with a mixture of edits for each row of a batch.

    Nothing is written to the weights, so strengths and edits change from call to call for free.
    Edits of routed experts are not possible this way; `WeightEditor` is for those.
    """

    def __init__(self, base: LoadedModel) -> None:
        self.base = base
        self._pieces: OrderedDict[str, _Piece] = OrderedDict()
        """By the digest of the term, which says which matrix it is of."""
        self._bytes = 0
        self._last: tuple[tuple[str, ...], Mapping[nn.Module, _Terms]] = ((), {})
        """Digests of the terms of the last batch, and these terms by layer."""

    @contextmanager
    def rows(self, mixtures: Sequence[Mixture]) -> Iterator[RowPlan]:
        """Within the block, row b of every batch runs with `mixtures[b]`.

        An empty mixture is the base model. Every call within the block must have as many rows as
        there are mixtures; a single mixture goes for any number of rows.

        Raises:
            InvalidRequest: a term does not fit the model or is a routed expert's.
        """
        plan = self.plan(mixtures)
        with self.active(plan):
            yield plan

    @contextmanager
    def active(self, plan: RowPlan) -> Iterator[None]:
        """Within the block every batch runs with `plan`."""
        hooks = [module.register_forward_hook(plan.add) for module in plan.modules]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def prepare(self, mixture: Mixture) -> None:
        """Bring the terms of a mixture into the form that they are served in, if they are not.

        Raises:
            InvalidRequest: a term does not fit the model or is a routed expert's.
        """
        terms = flatten(mixture)
        for term, _ in terms:
            self._piece(term, *self.base.linear(term.key))
        self._forget(beyond=len(terms))

    def plan(self, mixtures: Sequence[Mixture]) -> RowPlan:
        """Work out which layers get which terms at which strength in which row."""
        distinct: dict[str, Term] = {}
        users: dict[str, dict[int, float]] = {}
        """By digest: the rows that have the term, and at which strength."""
        for row, mixture in enumerate(mixtures):
            for term, strength in flatten(mixture):
                distinct[term.digest] = term
                rows = users.setdefault(term.digest, {})
                rows[row] = rows.get(row, 0.0) + strength
        stacks = {}
        for module, terms in self._stacked(distinct).items():
            factors = [
                [[users[digest].get(row, 0.0) for digest in terms.digests]]
                for row in range(len(mixtures))
            ]
            strengths = torch.tensor(factors, dtype=terms.outputs.dtype).reshape(
                len(mixtures), 1, len(terms.digests)
            )
            stacks[module] = _Stack(
                terms.directions, terms.outputs, strengths.to(terms.outputs.device)
            )
        return RowPlan(stacks)

    def _stacked(self, distinct: Mapping[str, Term]) -> Mapping[nn.Module, _Terms]:
        """The terms of each layer that has some; those of the last batch are remembered, since an
        adapter can have thousands.

        Args:
            distinct: by digest.
        """
        digests = tuple(sorted(distinct))
        if digests != self._last[0]:
            parts: dict[nn.Module, list[_Terms]] = {}
            terms = [(distinct[digest], 1.0) for digest in digests]
            for key, weighted in by_matrix(terms).items():
                module, first_row = self.base.linear(key)
                pieces = [self._piece(term, module, first_row) for term, _ in weighted]
                stacked = _Terms(
                    [term.digest for term, _ in weighted],
                    torch.stack([piece.direction for piece in pieces], dim=1),
                    torch.stack([piece.output for piece in pieces]),
                )
                parts.setdefault(module, []).append(stacked)
            self._forget(beyond=len(distinct))
            self._last = digests, {module: _join(pieces) for module, pieces in parts.items()}
        return self._last[1]

    def _piece(self, term: Term, module: nn.Module, first_row: int) -> _Piece:
        """A term in the dtype and on the device of its module, remembered."""
        piece = self._pieces.get(term.digest)
        if piece is not None:
            self._pieces.move_to_end(term.digest)
            return piece
        check_fit(self.base, {term.key: [(term, 1.0)]})
        weight: Tensor = module.weight  # type: ignore[assignment]
        wide = torch.promote_types(weight.dtype, torch.float32)
        direction = term.direction.to(wide)
        length = direction.norm().clamp_min(torch.finfo(wide).tiny)
        output = torch.zeros(len(weight), dtype=wide)
        size = len(self.base.matrix(term.key))
        output[first_row : first_row + size] = dense(term, size).to(wide) * length
        piece = _Piece(
            (direction / length).to(weight.device, weight.dtype),
            output.to(weight.device, weight.dtype),
        )
        self._pieces[term.digest] = piece
        self._bytes += piece.nbytes
        return piece

    def _forget(self, *, beyond: int) -> None:
        """Drop the terms that were used longest ago, but for the newest `beyond`."""
        while self._bytes > _CACHED_BYTES and len(self._pieces) > beyond:
            _, piece = self._pieces.popitem(last=False)
            self._bytes -= piece.nbytes


def _join(parts: Sequence[_Terms]) -> _Terms:
    """The terms of matrices that are fused in one module, as one."""
    if len(parts) == 1:
        return parts[0]
    return _Terms(
        [digest for part in parts for digest in part.digests],
        torch.cat([part.directions for part in parts], dim=1),
        torch.cat([part.outputs for part in parts], dim=0),
    )
