"""The two sides of a behaviour, as sums over its texts need them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from models_store.errors import InvalidRequest
from workers.runtime.tokens import Batch, Encoded

_NAMES = ("undesired", "desired")


@dataclass(frozen=True, eq=False)
class LabelledTexts:
    """Texts of a behaviour, and which of them are desired."""

    texts: Sequence[Encoded]
    side: Tensor
    """int64 `[texts]`: 1 for a desired text, 0 for an undesired one."""

    @classmethod
    def of(cls, desired: Sequence[Encoded], undesired: Sequence[Encoded]) -> LabelledTexts:
        side = torch.tensor([1] * len(desired) + [0] * len(undesired), dtype=torch.int64)
        return cls([*desired, *undesired], side)

    @property
    def signs(self) -> Tensor:
        """fp32 `[texts]`: 1 for a desired text, -1 for an undesired one."""
        return 2.0 * self.side - 1.0

    @cached_property
    def counts(self) -> Tensor:
        """fp32 `[texts]`: tokens that count, without a first one, which nothing predicts."""
        return torch.tensor([float(sum(text.scored[1:])) for text in self.texts])

    def sums(self, values: Tensor) -> Tensor:
        """fp32 `[2]`: those of undesired texts, and of desired ones; `values` is `[texts]`."""
        return torch.zeros(2).index_add_(0, self.side, values.float())

    @cached_property
    def _mean_shares(self) -> Tensor:
        return self.shares(self.counts > 0).double()

    def shares(self, counted: Tensor) -> Tensor:
        """fp32 `[texts]`: of each in the mean over those texts of its side that are counted; not a
        number for a side without any."""
        return counted / self.sums(counted)[self.side]

    def add_means_(self, means: Tensor, batch: Batch, vectors: Tensor) -> None:
        """Add to the mean of each side, fp64 `[2, size]`, what a batch has in it. It is over tokens
        that count, but never a text's first, and then over texts.

        Args:
            vectors: `[rows, length, size]`, any float dtype.
        """
        counted = batch.scored.clone()
        counted[:, 0] = False
        each = counted / counted.sum(dim=1, keepdim=True).clamp_min(1)
        weights = each.to(vectors.device, torch.float32)[:, None]
        of_texts = torch.bmm(weights, vectors.float())[:, 0].double().cpu()
        index = list(batch.index)
        means.index_add_(0, self.side[index], of_texts * self._mean_shares[index, None])

    def require(self, counts: Tensor, what: str) -> None:
        """Refuse a behaviour of which a side has nothing to sum up.

        Args:
            counts: `[texts]`.
            what: that a text lacks which counts as 0.

        Raises:
            InvalidRequest: all of a side are 0.
        """
        for side, total in reversed(list(enumerate(self.sums(counts).tolist()))):
            if not total:
                raise InvalidRequest(f"no {_NAMES[side]} text {what}")
