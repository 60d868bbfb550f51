"""Hidden states where answers start and elsewhere, which the method `conditional` is fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models_store.errors import InvalidRequest
from models_store.weights.architectures import DOWN, MatrixKey
from workers.runtime.loading import LoadedModel
from workers.runtime.reading.extract import visit_layers
from workers.runtime.tokens import Batch, Encoded
from workers.surgery.regression import AnswerStarts

_BEHAVIOR, _PRESERVED = 0, 1
"""Kinds of texts that are fitted on; the other two are those not seen, in the same order."""


@dataclass(frozen=True, eq=False)
class Answers:
    """Texts of a behaviour, which are to feel an edit, and preserved texts, which are not."""

    behavior: Sequence[Encoded]
    preserved: Sequence[Encoded]


def answer_starts(
    base: LoadedModel,
    fitted: Answers,
    unseen: Answers,
    layers: Sequence[int],
) -> list[AnswerStarts]:
    """Run texts once and keep what `condition` needs of `layers`.

    Args:
        unseen: texts that nothing is fitted on; there may be none.

    Raises:
        InvalidRequest: a layer has no such matrix, or no text of a kind to fit on is an answer.
    """
    for kind, texts in (("the behaviour", fitted.behavior), ("`preserve`", fitted.preserved)):
        if not _responses(texts):
            raise InvalidRequest(f"no text of {kind} to fit on is an answer to a prompt")
    kinds = (fitted.behavior, fitted.preserved, unseen.behavior, unseen.preserved)
    sums = {layer: _LayerSums(base, layer, kinds) for layer in layers}

    def visit(batch: Batch, layer: int, inputs: Tensor, residual: Tensor) -> None:
        sums[layer].add_(batch, inputs)

    visit_layers(base, [text for texts in kinds for text in texts], layers, visit)
    return [sums.pop(layer).statistics() for layer in layers]


class _LayerSums:
    """Running sums of one layer over batches of texts of each kind."""

    def __init__(self, base: LoadedModel, layer: int, kinds: Sequence[Sequence[Encoded]]) -> None:
        base.linear(MatrixKey(layer, DOWN))  # raises where a layer has none
        weight = base.matrix(MatrixKey(layer, DOWN))
        size, device = weight.shape[1], weight.device
        fitted = [*kinds[_BEHAVIOR], *kinds[_PRESERVED]]
        self._layer = layer
        self._kind = torch.tensor([kind for kind, texts in enumerate(kinds) for _ in texts])
        """By text."""
        self._responses = [_responses(texts) for texts in kinds]
        self._rest = max(1, sum(map(len, fitted)) - len(fitted) - _responses(fitted))
        """Other tokens that are fitted on, first ones apart."""
        self._behavior = torch.zeros(size, device=device)
        self._behavior_square = 0.0
        self._second = torch.zeros(size, size, device=device)
        self._unseen: tuple[list[Tensor], list[Tensor]] = ([], [])

    def add_(self, batch: Batch, inputs: Tensor) -> None:
        kinds = self._kind[list(batch.index)][:, None]
        starts = batch.answer_starts
        counts = torch.full(starts.shape, float(self._rest))
        for kind, count in enumerate(self._responses):
            of_kind = starts & (kinds == kind)
            counts[of_kind] = float(count)
            vectors = inputs[of_kind.to(inputs.device)].float()
            if kind == _BEHAVIOR:
                self._behavior += vectors.sum(dim=0)
                self._behavior_square += float(vectors.square().mean(dim=1).sum())
            elif kind > _PRESERVED:
                self._unseen[kind - 2].append(vectors.cpu())
        # Every kind of token weighs the same, however many there are of it.
        fitted = batch.real & (kinds <= _PRESERVED)
        fitted[:, 0] = False
        shares = counts[fitted].rsqrt()[:, None].to(inputs.device)
        weighted = shares * inputs[fitted.to(inputs.device)].float()
        self._second.addmm_(weighted.T, weighted)

    def statistics(self) -> AnswerStarts:
        count = self._responses[_BEHAVIOR]
        empty = torch.empty(0, len(self._behavior))
        return AnswerStarts(
            layer=self._layer,
            behavior=self._behavior.double().cpu() / count,
            behavior_square=self._behavior_square / count,
            second=self._second.cpu(),
            unseen_behavior=torch.cat([empty, *self._unseen[_BEHAVIOR]]),
            unseen_preserved=torch.cat([empty, *self._unseen[_PRESERVED]]),
        )


def _responses(texts: Sequence[Encoded]) -> int:
    """How many of them are responses to prompts of more than one token."""
    return sum(text.answer_start is not None for text in texts)
