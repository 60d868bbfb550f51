"""What a constant added to the outputs of `down_proj` does to log-likelihoods.

Of one layer, with c added at all tokens of a text but the first, or only where an answer starts:
∂/∂c is the sum of the gradients at the outputs of these tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from models_store.errors import InvalidRequest
from models_store.weights.architectures import DOWN, MatrixKey
from workers import progress
from workers.runtime.loading import LoadedModel
from workers.runtime.reading.gradients import Visit, visit_matrices
from workers.runtime.tokens import Batch, Encoded
from workers.surgery.moments import Moment, moment_sum

SHIFTS_VERSION = 2
"""Part of the key of cached curvatures: raise it when the numbers change."""
PIECE_TOKENS = 16
_DRAWS = 2
"""Times that labels are drawn for each piece."""


def shift_gradients(
    base: LoadedModel,
    desired: Sequence[Encoded],
    undesired: Sequence[Encoded],
    layers: Sequence[int],
    *,
    at_answer_starts: bool = False,
) -> dict[int, Tensor]:
    """∂/∂c (mean log p(desired) - mean log p(undesired)) of each layer, fp32 `[hidden]`.

    With `at_answer_starts`, c is added there and nowhere else, and texts that are no answers are
    left out. Log-likelihoods are means over a text's tokens that count, then over texts. Nothing
    predicts a text's first token, so it never counts.

    Raises:
        InvalidRequest: a layer has no such matrix, or a side has no text that counts.
    """
    border = sum(map(len, desired)) / max(1, sum(map(len, [*desired, *undesired])))
    at = at_answer_starts
    with progress.step("desired", border):
        wanted = _mean_gradients(base, "desired", desired, layers, at_answer_starts=at)
    with progress.step("undesired"):
        unwanted = _mean_gradients(base, "undesired", undesired, layers, at_answer_starts=at)
    return {layer: wanted[layer] - unwanted[layer] for layer in layers}


def shift_curvature(
    base: LoadedModel,
    texts: Sequence[Encoded],
    layers: Sequence[int],
    *,
    seed: int = 0,
) -> dict[int, Moment]:
    """The Fisher matrix of c of each layer, `[hidden, hidden]`, in nats a token.

    F = E[q qᵀ] over pieces of neutral text, with q the gradient of Σ log p(label) at c, divided by
    the root of the number of labels; labels are drawn from the model at temperature 1. So the KL
    to the base is about ½ cᵀ F c a token. Many short pieces say more than few long texts.

    Args:
        texts: cut into pieces of 16 tokens here, each of which begins as texts begin.

    Raises:
        InvalidRequest: a layer has no such matrix, or no piece has a token that counts.
    """
    start = base.start_ids
    pieces = [piece for text in texts for piece in pieces_of(text, start) for _ in range(_DRAWS)]
    if not pieces:
        raise InvalidRequest("no neutral text has a piece with a token that counts")
    generator = torch.Generator().manual_seed(seed)
    draws = [torch.rand(len(piece), generator=generator) for piece in pieces]
    sums = {
        layer: moment_sum(base.hidden_size, base.matrix(MatrixKey(layer, DOWN)).device)
        for layer in layers
    }

    def visit(batch: Batch, layer: int, q: Tensor) -> None:
        labels = batch.scored[:, 1:].sum(dim=1, keepdim=True).to(q.device)
        sums[layer].add_(q / labels.sqrt())

    visit_matrices(base, pieces, _outputs(layers), _at_outputs(visit), draws=draws)
    return {layer: products.moment() for layer, products in sums.items()}


def _mean_gradients(
    base: LoadedModel,
    name: str,
    texts: Sequence[Encoded],
    layers: Sequence[int],
    *,
    at_answer_starts: bool,
) -> Mapping[int, Tensor]:
    counted = [
        text
        for text in texts
        if (text.answer_start is not None if at_answer_starts else any(text.scored[1:]))
    ]
    if not counted:
        cause = (
            "is an answer to a prompt"
            if at_answer_starts
            else "has a token after its first one that counts"
        )
        raise InvalidRequest(f"no {name} text {cause}")
    sums = {layer: torch.zeros(base.hidden_size) for layer in layers}

    def visit(batch: Batch, layer: int, q: Tensor) -> None:
        labels = batch.scored[:, 1:].sum(dim=1, keepdim=True).to(q.device)
        sums[layer] += (q / labels).sum(dim=0).cpu()

    at_outputs = _at_outputs(visit, at_answer_starts=at_answer_starts)
    visit_matrices(base, counted, _outputs(layers), at_outputs)
    return {layer: total / len(counted) for layer, total in sums.items()}


def _at_outputs(
    visit: Callable[[Batch, int, Tensor], None], *, at_answer_starts: bool = False
) -> Visit:
    """A visitor of `down_proj` that hands over ∂/∂c of Σ log p(label) of each text:
    `visit(batch, layer, [rows, hidden])`."""

    def at_outputs(batch: Batch, key: MatrixKey, x: Tensor, g: Tensor) -> None:
        if at_answer_starts:
            g = g * batch.answer_starts[..., None].to(g.device)
        # Padding has no gradient, and where a text begins nothing is added.
        visit(batch, key.layer, g[:, 1:].float().sum(dim=1))

    return at_outputs


def _outputs(layers: Sequence[int]) -> list[MatrixKey]:
    return [MatrixKey(layer, DOWN) for layer in layers]


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
