"""What a constant added to the outputs of `down_proj` does to log-likelihoods.

Of one layer, with c added at all tokens of a text but the first, or only where an answer starts:
∂/∂c is the sum of the gradients at the outputs of these tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from models_store.errors import InvalidRequest
from models_store.weights.architectures import DOWN, MatrixKey
from workers.runtime.loading import LoadedModel
from workers.runtime.reading.labelled import LabelledTexts
from workers.runtime.reading.passes import Reading, read_texts
from workers.runtime.tokens import Batch, Encoded
from workers.surgery.moments import Moment, moment_sum

SHIFTS_VERSION = 2
"""Part of the key of cached curvatures: raise it when the numbers change."""
PIECE_TOKENS = 16
_DRAWS = 2


class WeightedShifts(Reading):
    """∂/∂c Σ weight · log p(text) of each layer."""

    def __init__(
        self,
        base: LoadedModel,
        weights: Tensor,
        layers: Sequence[int],
        *,
        at_answer_starts: bool = False,
    ) -> None:
        """Args:
        weights: fp32 `[texts]`.
        at_answer_starts: c is added there and nowhere else.

        Raises:
            InvalidRequest: a layer has no such matrix.
        """
        self.matrices = _outputs(base, layers)
        self._weights = weights
        self._at_answer_starts = at_answer_starts
        self.gradients = {layer: torch.zeros(base.hidden_size) for layer in layers}
        """By layer: fp32 `[hidden]` on the CPU."""

    def tensors(self) -> Iterable[Tensor]:
        return self.gradients.values()

    def at_matrix(self, batch: Batch, key: MatrixKey, inputs: Tensor, gradients: Tensor) -> None:
        if self._at_answer_starts:
            gradients = gradients * batch.answer_starts[..., None].to(gradients.device)
        self.gradients[key.layer] += self._weights[list(batch.index)] @ _at_shift(gradients).cpu()


class Shifts(WeightedShifts):
    """∂/∂c (mean log p(desired) - mean log p(undesired)) of each layer.

    Log-likelihoods are means over a text's tokens that count, then over texts. Nothing predicts a
    text's first token, so it never counts.
    """

    def __init__(
        self,
        base: LoadedModel,
        sides: LabelledTexts,
        layers: Sequence[int],
        *,
        at_answer_starts: bool = False,
    ) -> None:
        """Args:
        at_answer_starts: c is added there and nowhere else, and texts that are no answers are
            left out.

        Raises:
            InvalidRequest: a layer has no such matrix, or a side has no text that counts.
        """
        counted = sides.counts > 0
        if at_answer_starts:
            counted = torch.tensor([text.answer_start is not None for text in sides.texts])
            sides.require(counted, "is an answer to a prompt")
        sides.require(counted, "has a token after its first one that counts")
        weights = sides.signs * sides.shares(counted) / sides.counts.clamp_min(1)
        super().__init__(base, weights, layers, at_answer_starts=at_answer_starts)


def shift_curvature(
    base: LoadedModel,
    texts: Sequence[Encoded],
    layers: Sequence[int],
    *,
    seed: int = 0,
    draws: int = _DRAWS,
) -> dict[int, Moment]:
    """The Fisher matrix of c of each layer, `[hidden, hidden]`, in nats a token.

    F = E[q qᵀ] over pieces of neutral text, with q the gradient of Σ log p(label) at c, divided by
    the root of the number of labels; labels are drawn from the model at temperature 1. So the KL
    to the base is about ½ cᵀ F c a token. Many short pieces say more than few long texts.

    Args:
        texts: cut into pieces of 16 tokens here, each of which begins as texts begin.
        draws: times that labels are drawn for each piece.

    Raises:
        InvalidRequest: a layer has no such matrix, or no piece has a token that counts.
    """
    start = base.start_ids
    pieces = [piece for text in texts for piece in pieces_of(text, start) for _ in range(draws)]
    if not pieces:
        raise InvalidRequest("no neutral text has a piece with a token that counts")
    generator = torch.Generator().manual_seed(seed)
    uniform = [torch.rand(len(piece), generator=generator) for piece in pieces]
    reading = _ShiftCurvature(base, layers)
    read_texts(base, pieces, [reading], draws=uniform)
    return {layer: products.moment() for layer, products in reading.sums.items()}


class _ShiftCurvature(Reading):
    def __init__(self, base: LoadedModel, layers: Sequence[int]) -> None:
        self.matrices = _outputs(base, layers)
        self.sums = {
            key.layer: moment_sum(base.hidden_size, base.matrix(key).device)
            for key in self.matrices
        }

    def tensors(self) -> Iterable[Tensor]:
        return [tensor for products in self.sums.values() for tensor in products.tensors()]

    def at_matrix(self, batch: Batch, key: MatrixKey, inputs: Tensor, gradients: Tensor) -> None:
        labels = batch.scored[:, 1:].sum(dim=1, keepdim=True).to(gradients.device)
        self.sums[key.layer].add_(_at_shift(gradients) / labels.sqrt())


def _at_shift(gradients: Tensor) -> Tensor:
    """∂/∂c of each text, `[rows, hidden]`: padding has no gradient, and where a text begins nothing
    is added."""
    return gradients[:, 1:].float().sum(dim=1)


def _outputs(base: LoadedModel, layers: Sequence[int]) -> list[MatrixKey]:
    keys = [MatrixKey(layer, DOWN) for layer in layers]
    for key in keys:
        base.linear(key)  # raises where a layer has none
    return keys


def pieces_of(text: Encoded, before: tuple[int, ...]) -> list[Encoded]:
    """A text in pieces of equal length that have something to predict; the rest is left out.

    Args:
        before: the token that the tokenizer begins every text with, if any; so does every piece.
    """
    begun = len(before) if text.ids[: len(before)] == before else 0
    unscored = (False,) * len(before)
    pieces = [
        Encoded(
            (*before, *text.ids[cut : cut + PIECE_TOKENS]),
            (*unscored, *text.scored[cut : cut + PIECE_TOKENS]),
            0,
        )
        for cut in range(begun, len(text) - PIECE_TOKENS + 1, PIECE_TOKENS)
    ]
    return [piece for piece in pieces if any(piece.scored[1:])]
