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

_ASKED, _SPARED = 0, 1
"""Kinds of texts that are fitted on; the other two are those not seen, in the same order."""


@dataclass(frozen=True, eq=False)
class Answers:
    """Texts of a behaviour, which are to feel an edit, and of what is to be spared by it."""

    asked: Sequence[Encoded]
    spared: Sequence[Encoded]


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
    for kind, own in (("the behaviour", fitted.asked), ("`preserve`", fitted.spared)):
        if not _answers(own):
            raise InvalidRequest(f"no text of {kind} to fit on is an answer to a prompt")
    kinds = (fitted.asked, fitted.spared, unseen.asked, unseen.spared)
    sums = {layer: _LayerSums(base, layer, kinds) for layer in layers}

    def visit(batch: Batch, layer: int, inputs: Tensor, residual: Tensor) -> None:
        sums[layer].add_(batch, inputs)

    texts = [text for own in kinds for text in own]
    visit_layers(base, texts, layers, visit)
    return [sums.pop(layer).statistics() for layer in layers]


class _LayerSums:
    """Running sums of one layer over batches of texts of each kind."""

    def __init__(self, base: LoadedModel, layer: int, kinds: Sequence[Sequence[Encoded]]) -> None:
        base.linear(MatrixKey(layer, DOWN))  # raises where a layer has none
        weight = base.matrix(MatrixKey(layer, DOWN))
        size, device = weight.shape[1], weight.device
        fitted = [*kinds[_ASKED], *kinds[_SPARED]]
        self._layer = layer
        self._kind = torch.tensor([kind for kind, own in enumerate(kinds) for _ in own])
        """By text."""
        self._answers = [_answers(own) for own in kinds]
        self._rest = max(1, sum(map(len, fitted)) - len(fitted) - _answers(fitted))
        """Other tokens that are fitted on, first ones apart."""
        self._asked = torch.zeros(size, device=device)
        self._asked_square = 0.0
        self._second = torch.zeros(size, size, device=device)
        self._unseen: tuple[list[Tensor], list[Tensor]] = ([], [])

    def add_(self, batch: Batch, inputs: Tensor) -> None:
        kinds = self._kind[list(batch.index)][:, None]
        starts = batch.answer_starts
        counts = torch.full(starts.shape, float(self._rest))
        for kind, count in enumerate(self._answers):
            own = starts & (kinds == kind)
            counts[own] = float(count)
            vectors = inputs[own.to(inputs.device)].float()
            if kind == _ASKED:
                self._asked += vectors.sum(dim=0)
                self._asked_square += float(vectors.square().mean(dim=1).sum())
            elif kind > _SPARED:
                self._unseen[kind - 2].append(vectors.cpu())
        # Every kind of token weighs the same, however many there are of it.
        fitted = batch.real & (kinds <= _SPARED)
        fitted[:, 0] = False
        shares = counts[fitted].rsqrt()[:, None].to(inputs.device)
        weighted = shares * inputs[fitted.to(inputs.device)].float()
        self._second.addmm_(weighted.T, weighted)

    def statistics(self) -> AnswerStarts:
        asked = self._answers[_ASKED]
        empty = torch.empty(0, len(self._asked))
        return AnswerStarts(
            layer=self._layer,
            asked=self._asked.double().cpu() / asked,
            asked_square=self._asked_square / asked,
            second=self._second.cpu(),
            unseen_asked=torch.cat([empty, *self._unseen[_ASKED]]),
            unseen_spared=torch.cat([empty, *self._unseen[_SPARED]]),
        )


def _answers(texts: Sequence[Encoded]) -> int:
    """How many of them are answers to prompts of more than one token."""
    return sum(text.answer_start is not None for text in texts)
