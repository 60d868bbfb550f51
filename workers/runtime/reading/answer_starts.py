"""Hidden states where answers start and elsewhere, which the method `conditional` is fitted on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models_store.errors import InvalidRequest
from models_store.weights.architectures import DOWN, MatrixKey
from workers.runtime.loading import LoadedModel
from workers.runtime.reading.passes import Reading
from workers.runtime.reading.residuals import InputsAt
from workers.runtime.tokens import Batch, Encoded
from workers.surgery.regression import AnswerStarts


@dataclass(frozen=True, eq=False)
class Responses:
    """Texts of a behaviour, which are to receive an edit, and preserved texts, which are not."""

    behavior: Sequence[Encoded]
    preserved: Sequence[Encoded]

    def rest_tokens(self) -> int:
        """Those that are neither the first of a text nor where a response starts."""
        texts = [*self.behavior, *self.preserved]
        return max(1, sum(map(len, texts)) - len(texts) - count_responses(texts))


class ResponseStarts(Reading):
    """Moments of the inputs of `down_proj` of texts to fit on, of one kind. Where its responses
    start weighs as much as all the rest of both kinds, however many tokens there are of either."""

    def __init__(
        self,
        base: LoadedModel,
        texts: Sequence[Encoded],
        layers: Sequence[int],
        *,
        rest_tokens: int,
    ) -> None:
        """Args:
        rest_tokens: other tokens, of both kinds.
        """
        self.layers = layers
        self._count = count_responses(texts)
        self._rest_tokens = rest_tokens
        self._sums: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        """By layer, over starts: the sum and the squares, `[size]` and 0-dim; then the moments."""
        for layer in layers:
            base.linear(MatrixKey(layer, DOWN))  # raises where a layer has none
            weight = base.matrix(MatrixKey(layer, DOWN))
            size, device = weight.shape[1], weight.device
            self._sums[layer] = (
                torch.zeros(size, device=device),
                torch.zeros((), dtype=torch.float64),
                torch.zeros(size, size, device=device),
            )

    def tensors(self) -> Iterable[Tensor]:
        return [tensor for sums in self._sums.values() for tensor in sums]

    def at_layer(self, batch: Batch, layer: int, inputs: Tensor, residual: Tensor) -> None:
        total, square, second = self._sums[layer]
        starts = batch.answer_starts
        vectors = inputs[starts.to(inputs.device)].float()
        total += vectors.sum(dim=0)
        square += vectors.square().mean(dim=1).sum().double().cpu()
        counts = torch.full(starts.shape, float(self._rest_tokens))
        counts[starts] = float(self._count)
        fitted = batch.real.clone()
        fitted[:, 0] = False
        shares = counts[fitted].rsqrt()[:, None].to(inputs.device)
        weighted = shares * inputs[fitted.to(inputs.device)].float()
        second.addmm_(weighted.T, weighted)

    def mean(self, layer: int) -> tuple[Tensor, float]:
        """Over starts: the vectors, fp64 `[size]`, and the means of their squares."""
        total, square, _ = self._sums[layer]
        return total.double().cpu() / self._count, float(square) / self._count

    def second(self, layer: int) -> Tensor:
        return self._sums[layer][2].cpu()


def answer_starts(
    behavior: ResponseStarts,
    preserved: ResponseStarts,
    unseen_behavior: Mapping[int, Tensor],
    unseen_preserved: Mapping[int, Tensor],
) -> dict[int, AnswerStarts]:
    """What `condition` needs of layers.

    Args:
        unseen_behavior, unseen_preserved: see `AnswerStarts`; by layer.
    """
    statistics = {}
    for layer in behavior.layers:
        mean, square = behavior.mean(layer)
        statistics[layer] = AnswerStarts(
            layer=layer,
            behavior=mean,
            behavior_square=square,
            second=behavior.second(layer) + preserved.second(layer),
            unseen_behavior=unseen_behavior[layer],
            unseen_preserved=unseen_preserved[layer],
        )
    return statistics


def starts_of(base: LoadedModel, texts: Sequence[Encoded], layers: Sequence[int]) -> InputsAt:
    """Inputs of `down_proj` where responses to prompts start."""
    return InputsAt(base, [text.answer_start for text in texts], layers)


def require_responses(texts: Responses) -> None:
    """Raises:
    InvalidRequest: no text of a kind is an answer.
    """
    for kind, some in (("the behaviour", texts.behavior), ("`preserve`", texts.preserved)):
        if not count_responses(some):
            raise InvalidRequest(f"no text of {kind} to fit on is an answer to a prompt")


def count_responses(texts: Sequence[Encoded]) -> int:
    """How many of them are responses to prompts of more than one token."""
    return sum(text.answer_start is not None for text in texts)
