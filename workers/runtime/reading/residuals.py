"""The statistics of hidden states that the `bias` method is fitted on and judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models_store.weights.architectures import DOWN, MatrixKey
from workers.runtime.loading import LoadedModel
from workers.runtime.reading.extract import visit_layers
from workers.runtime.tokens import Batch, Encoded, encode_prompt
from workers.surgery.regression import FirstTokens, LayerStatistics, TokenMoments

FIRST_TOKENS_FITTED = 1000
FIRST_TOKENS_CHECKED = 500
FIRST_TOKENS_VERSION = 1
"""Part of the key of cached first tokens: raise it when the numbers change."""


def bias_statistics(
    base: LoadedModel,
    desired: Sequence[Encoded],
    undesired: Sequence[Encoded],
    layers: Sequence[int],
) -> list[LayerStatistics]:
    """Run both sides once and keep what `fit_layer` needs of `layers`.

    Means of the residual stream are over the tokens that count, but never a text's first; the
    moments of `down_proj`'s inputs are over all tokens but first ones.

    Raises:
        InvalidRequest: a layer has no such matrix, as a layer of routed experts.
    """
    texts = [*desired, *undesired]
    sums = {layer: _LayerSums(base, layer, len(texts)) for layer in layers}

    def visit(batch: Batch, layer: int, inputs: Tensor, residual: Tensor) -> None:
        sums[layer].add_(batch, inputs, residual)

    visit_layers(base, texts, layers, visit)
    return [sums[layer].statistics(len(desired)) for layer in layers]


def first_tokens(
    base: LoadedModel, layers: Sequence[int], *, seed: int = 0
) -> Mapping[int, FirstTokens]:
    """Inputs of `down_proj` for tokens that stand alone, as the first of a text.

    Where any token may come first, random ones are drawn, some to fit on and others to check on,
    and the first token of all chats is among those fitted. A tokenizer that begins every text
    with a token of its own leaves only that to care about: fitting others as well would spoil
    the regression for nothing. The result depends on the base model alone, so it can be kept.

    Raises:
        InvalidRequest: a layer has no such matrix.
    """
    _check_layers(base, layers)
    usual = _usual_first_tokens(base)
    if base.start_ids:
        fitted = checked = usual
    else:
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randperm(base.vocabulary, generator=generator).tolist()
        total = min(len(drawn), FIRST_TOKENS_FITTED + FIRST_TOKENS_CHECKED)
        border = total * FIRST_TOKENS_FITTED // (FIRST_TOKENS_FITTED + FIRST_TOKENS_CHECKED)
        fitted, checked = [*usual, *drawn[:border]], drawn[border:total]
    ids = [*fitted, *checked]
    vectors: dict[int, Tensor] = {}

    def visit(batch: Batch, layer: int, inputs: Tensor, residual: Tensor) -> None:
        place = vectors.setdefault(layer, torch.empty(len(ids), inputs.shape[-1]))
        place[list(batch.index)] = inputs[:, 0].float().cpu()

    visit_layers(base, [Encoded((i,), (True,), 0) for i in ids], layers, visit)
    border = len(fitted)
    return {
        layer: FirstTokens(place[:border].clone(), place[border:].clone())
        for layer, place in vectors.items()
    }


@dataclass(frozen=True)
class Spread:
    """a · h of one layer over some texts: 1 and 0 would be perfect."""

    mean: float
    """At all tokens but first ones."""
    low: float
    """5 % of these tokens are below."""
    high: float
    """5 % of these tokens are above."""
    first_rms: float
    """Root mean square at first tokens."""


def spread(
    base: LoadedModel, directions: Mapping[int, Tensor], texts: Sequence[Encoded]
) -> dict[int, Spread]:
    """How far a · h is from constant on texts that nothing was fitted on.

    Args:
        directions: by layer: `a`, `[intermediate]`.
        texts: at least one of two tokens or more.
    """
    rest: dict[int, list[Tensor]] = {layer: [] for layer in directions}
    first: dict[int, list[Tensor]] = {layer: [] for layer in directions}

    def visit(batch: Batch, layer: int, inputs: Tensor, residual: Tensor) -> None:
        responses = (inputs.float() @ directions[layer].to(inputs.device, torch.float32)).cpu()
        first[layer].append(responses[:, 0])
        rest[layer].append(responses[:, 1:][batch.real[:, 1:]])

    visit_layers(base, texts, list(directions), visit)
    spreads = {}
    for layer in directions:
        responses = torch.cat(rest[layer])
        low, high = torch.quantile(
            responses[:: _stride(len(responses))], torch.tensor([0.05, 0.95])
        )
        rms = torch.cat(first[layer]).square().mean().sqrt()
        spreads[layer] = Spread(float(responses.mean()), float(low), float(high), float(rms))
    return spreads


def _stride(count: int) -> int:
    """torch.quantile takes 16 million values at most."""
    return count // 10_000_000 + 1


class _LayerSums:
    """Running sums of one layer over batches of texts."""

    def __init__(self, base: LoadedModel, layer: int, texts: int) -> None:
        _check_layers(base, [layer])
        self.layer = layer
        self.weight = base.matrix(MatrixKey(layer, DOWN))
        self.moments = TokenMoments(self.weight.shape[1], self.weight.device)
        self.means = torch.full((texts, base.hidden_size), float("nan"), dtype=torch.float64)
        """By text; NaN for one with no token that counts after its first."""

    def add_(self, batch: Batch, inputs: Tensor, residual: Tensor) -> None:
        rest = batch.real.clone()
        rest[:, 0] = False
        self.moments.add_(inputs[rest.to(inputs.device)])
        wide = residual.float()
        counted = (batch.scored & rest).to(wide.device, torch.float32)
        sums = torch.bmm(counted[:, None], wide)[:, 0]
        self.means[list(batch.index)] = (sums / counted.sum(dim=1, keepdim=True)).double().cpu()

    def statistics(self, desired: int) -> LayerStatistics:
        """Fold the sums up; the first `desired` texts are those without the trait."""
        return LayerStatistics(
            layer=self.layer,
            desired=self.means[:desired].nanmean(dim=0),
            undesired=self.means[desired:].nanmean(dim=0),
            rest=self.moments,
            output_norm=self._output_norm(),
        )

    def _output_norm(self) -> float:
        """From E[h hᵀ]: the mean of ‖W h‖² is the trace of W E[h hᵀ] Wᵀ."""
        weight = self.weight.double().cpu()
        return float(((weight @ self.moments.second) * weight).sum().sqrt())


def _check_layers(base: LoadedModel, layers: Sequence[int]) -> None:
    for layer in layers:
        base.linear(MatrixKey(layer, DOWN))


def _usual_first_tokens(base: LoadedModel) -> list[int]:
    """First tokens of every chat, and of every text when the tokenizer adds one of its own."""
    firsts = set(base.start_ids)
    if base.has_chat_template:
        firsts.add(encode_prompt(base, "a", chat=True)[0])
    return sorted(firsts)
