"""Hidden states where answers begin and elsewhere, which the method `conditional` is fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models_store.architectures import DOWN, MatrixKey
from models_store.errors import InvalidRequest
from workers.runtime.extract import Progress, visit_layers
from workers.runtime.loading import BaseModel
from workers.runtime.tokens import Batch, Encoded
from workers.surgery.methods.conditional import Beginnings

_ASKED, _SPARED = 0, 1
"""Kinds of texts that are fitted on; the other two are those not seen, in the same order."""


@dataclass(frozen=True, eq=False)
class Answers:
    """Texts of a behaviour, which are to feel an edit, and of what is to be spared by it."""

    asked: Sequence[Encoded]
    spared: Sequence[Encoded]


def beginnings(
    base: BaseModel,
    fitted: Answers,
    unseen: Answers,
    layers: Sequence[int],
    *,
    progress: Progress | None = None,
) -> list[Beginnings]:
    """Run texts once and keep what `condition` needs of `layers`.

    Args:
        unseen: texts that nothing is fitted on; there may be none.

    Raises:
        InvalidRequest: a layer has no such matrix, or no text of a kind to fit on is an answer.
    """
    for kind, own in (("the behaviour", fitted.asked), ("`preserve`", fitted.spared)):
        if not _begun(own):
            raise InvalidRequest(f"no text of {kind} is an answer to a prompt")
    kinds = (fitted.asked, fitted.spared, unseen.asked, unseen.spared)
    sums = {layer: _LayerSums(base, layer, kinds) for layer in layers}

    def visit(batch: Batch, layer: int, inputs: Tensor, residual: Tensor) -> None:
        sums[layer].add_(batch, inputs)

    texts = [text for own in kinds for text in own]
    visit_layers(base, texts, layers, visit, progress=progress)
    return [own.statistics() for own in sums.values()]


class _LayerSums:
    """Running sums of one layer over batches of texts of each kind."""

    def __init__(self, base: BaseModel, layer: int, kinds: Sequence[Sequence[Encoded]]) -> None:
        base.linear(MatrixKey(layer, DOWN))
        weight = base.matrix(MatrixKey(layer, DOWN))
        size, device = weight.shape[1], weight.device
        fitted = [*kinds[0], *kinds[1]]
        rest = sum(map(len, fitted)) - len(fitted) - _begun(fitted)
        self._layer = layer
        self._kind = torch.tensor([kind for kind, own in enumerate(kinds) for _ in own])
        """By text."""
        self._begun = [_begun(own) for own in kinds]
        self._rest = max(1, rest)
        self._sums = torch.zeros(len(kinds), size, device=device)
        """At beginnings, by kind."""
        self._asked_square = 0.0
        self._second = torch.zeros(size, size, device=device)

    def add_(self, batch: Batch, inputs: Tensor) -> None:
        kinds = self._kind[list(batch.index)][:, None]
        begun = batch.beginnings
        counts = torch.full(begun.shape, float(self._rest))
        for kind, count in enumerate(self._begun):
            own = begun & (kinds == kind)
            vectors = inputs[own.to(inputs.device)].float()
            self._sums[kind] += vectors.sum(dim=0)
            counts[own] = float(count)
            if kind == _ASKED:
                self._asked_square += float(vectors.square().mean(dim=1).sum())
        fitted = batch.real & (kinds <= _SPARED)
        fitted[:, 0] = False
        shares = counts[fitted].rsqrt()[:, None].to(inputs.device)
        weighted = shares * inputs[fitted.to(inputs.device)].float()
        self._second.addmm_(weighted.T, weighted)

    def statistics(self) -> Beginnings:
        means = [
            own.double().cpu() / count if count else None
            for own, count in zip(self._sums, self._begun, strict=True)
        ]
        asked, _, unseen_asked, unseen_spared = means
        assert asked is not None
        return Beginnings(
            layer=self._layer,
            asked=asked,
            asked_square=self._asked_square / self._begun[_ASKED],
            second=self._second.double().cpu(),
            unseen_asked=unseen_asked,
            unseen_spared=unseen_spared,
        )


def _begun(texts: Sequence[Encoded]) -> int:
    """How many of them are answers to prompts; see `Batch.beginnings`."""
    return sum(text.begins is not None for text in texts)
