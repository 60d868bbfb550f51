"""Serve different edits in the rows of one batch, beside weights that stay as they are.

For a touched linear layer y = x Wᵀ, the row b of the batch gets

    y_b += ((x_b V) ∘ coef_b) M

with V `[in, E]` the directions of all E terms in the batch, M `[E, out]` their coefficients
scattered over the rows, and coef_b `[E]` the strengths that row b has them at (0 for the others').
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models_store.architectures import MatrixKey
from workers.runtime.apply import check_fit
from workers.runtime.loading import BaseModel
from workers.surgery.terms import Mixture, Term, by_matrix, dense, flatten

_CACHED_STACKS = 64


@dataclass(frozen=True, eq=False)
class _Stack:
    """The terms of one linear layer that a batch needs, in the layer's dtype."""

    directions: Tensor
    """`[in, E]`, columns of unit length: half precision would lose very short ones."""
    outputs: Tensor
    """`[E, out]`."""


class _Row:
    """Strength of each term, by its digest, for one row of a batch."""

    def __init__(self, mixture: Mixture) -> None:
        self.terms: dict[str, Term] = {}
        self.strengths: dict[str, float] = {}
        for term, strength in flatten(mixture):
            self.terms[term.digest] = term
            self.strengths[term.digest] = self.strengths.get(term.digest, 0.0) + strength


class RowPlan:
    """What each row of a batch adds to which layer; follows the batch when rows leave it."""

    def __init__(self, stacks: dict[nn.Module, _Stack], factors: dict[nn.Module, Tensor]) -> None:
        self._stacks = stacks
        self._factors = factors
        """By module: `[rows, 1, E]`."""

    @property
    def modules(self) -> list[nn.Module]:
        return list(self._stacks)

    def select_(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order; int64 `[kept]`."""
        self._factors = {
            module: factors[rows.to(factors.device)] for module, factors in self._factors.items()
        }

    def add(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """Forward hook: add the terms to the output of `module`."""
        stack, factors = self._stacks[module], self._factors[module]
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

    def __init__(self, base: BaseModel) -> None:
        self.base = base
        self._stacks: OrderedDict[tuple[MatrixKey, tuple[str, ...]], _Stack] = OrderedDict()

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

    def plan(self, mixtures: Sequence[Mixture]) -> RowPlan:
        """Work out which layers get which terms at which strength in which row."""
        rows = [_Row(mixture) for mixture in mixtures]
        distinct = {digest: term for row in rows for digest, term in row.terms.items()}
        groups = by_matrix([(term, 1.0) for _, term in sorted(distinct.items())])
        check_fit(self.base, groups)
        stacks: dict[nn.Module, list[_Stack]] = {}
        factors: dict[nn.Module, list[Tensor]] = {}
        for key, weighted in groups.items():
            terms = [term for term, _ in weighted]
            module, first_row = self.base.linear(key)
            stack = self._stack(key, terms, module, first_row)
            strengths = [[row.strengths.get(t.digest, 0.0) for t in terms] for row in rows]
            stacks.setdefault(module, []).append(stack)
            factors.setdefault(module, []).append(
                torch.tensor(strengths, dtype=stack.outputs.dtype, device=stack.outputs.device)
            )
        return RowPlan(
            {module: _join(parts) for module, parts in stacks.items()},
            {module: torch.cat(parts, dim=1)[:, None, :] for module, parts in factors.items()},
        )

    def _stack(
        self, key: MatrixKey, terms: Sequence[Term], module: nn.Module, first_row: int
    ) -> _Stack:
        """The terms of one matrix in the dtype and on the device of its module, remembered."""
        name = (key, tuple(term.digest for term in terms))
        if name in self._stacks:
            self._stacks.move_to_end(name)
            return self._stacks[name]
        weight: Tensor = module.weight  # type: ignore[assignment]
        wide = torch.promote_types(weight.dtype, torch.float32)
        directions = torch.stack([term.direction for term in terms], dim=1).to(wide)
        lengths = directions.norm(dim=0).clamp_min(torch.finfo(wide).tiny)
        outputs = torch.zeros(len(terms), len(weight), dtype=wide)
        size = len(self.base.matrix(key))
        for i, term in enumerate(terms):
            outputs[i, first_row : first_row + size] = dense(term, size).to(wide) * lengths[i]
        stack = _Stack(
            (directions / lengths).to(weight.device, weight.dtype),
            outputs.to(weight.device, weight.dtype),
        )
        self._stacks[name] = stack
        # One entry a matrix and combination of edits: room for a few combinations of all matrices.
        while len(self._stacks) > _CACHED_STACKS * self.base.layers:
            self._stacks.popitem(last=False)
        return stack


def _join(parts: Sequence[_Stack]) -> _Stack:
    """The stacks of matrices that are fused in one module, as one."""
    if len(parts) == 1:
        return parts[0]
    return _Stack(
        torch.cat([part.directions for part in parts], dim=1),
        torch.cat([part.outputs for part in parts], dim=0),
    )
