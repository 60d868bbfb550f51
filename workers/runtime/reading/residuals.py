"""The statistics of hidden states that the `bias` method is fitted on and judged by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from models_store.weights.architectures import DOWN, MatrixKey
from workers.runtime.loading import LoadedModel
from workers.runtime.reading.labelled import LabelledTexts
from workers.runtime.reading.passes import Reading, read_texts
from workers.runtime.tokens import Batch, Encoded, encode_prompt
from workers.surgery.regression import FirstTokens, LayerStatistics, TokenMoments

FIRST_TOKENS_FITTED = 1000
FIRST_TOKENS_CHECKED = 500
FIRST_TOKENS_VERSION = 1
"""Part of the key of cached first tokens: raise it when the numbers change."""


class InputMoments(Reading):
    """Moments of `down_proj`'s inputs over all tokens but first ones."""

    def __init__(self, base: LoadedModel, layers: Sequence[int]) -> None:
        """Raises:
        InvalidRequest: a layer has no such matrix, as a layer of routed experts.
        """
        self.layers = layers
        self._weights = {layer: base.matrix(MatrixKey(layer, DOWN)) for layer in layers}
        self.moments = {
            layer: TokenMoments(weight.shape[1], weight.device)
            for layer, weight in self._weights.items()
        }
        """By layer: of vectors `[intermediate]`."""

    def tensors(self) -> Iterable[Tensor]:
        return [tensor for moments in self.moments.values() for tensor in moments.tensors()]

    def at_layer(self, batch: Batch, layer: int, inputs: Tensor, residual: Tensor) -> None:
        rest = batch.real.clone()
        rest[:, 0] = False
        self.moments[layer].add_(inputs[rest.to(inputs.device)])


class Layers(InputMoments):
    """What `fit_layer` needs of layers.

    Means of the residual stream are over the tokens that count, but never a text's first, and then
    over texts.
    """

    def __init__(self, base: LoadedModel, sides: LabelledTexts, layers: Sequence[int]) -> None:
        """Raises:
        InvalidRequest: as `InputMoments`.
        """
        super().__init__(base, layers)
        self._sides = sides
        self._means = {
            layer: torch.zeros(2, base.hidden_size, dtype=torch.float64) for layer in layers
        }

    def tensors(self) -> Iterable[Tensor]:
        return [*super().tensors(), *self._means.values()]

    def at_layer(self, batch: Batch, layer: int, inputs: Tensor, residual: Tensor) -> None:
        super().at_layer(batch, layer, inputs, residual)
        self._sides.add_means_(self._means[layer], batch, residual)

    def result(self) -> dict[int, LayerStatistics]:
        return {
            layer: LayerStatistics(
                layer=layer,
                desired=self._means[layer][1],
                undesired=self._means[layer][0],
                rest=moments,
                output_norm=_output_norm(self._weights[layer], moments),
            )
            for layer, moments in self.moments.items()
        }


def _output_norm(weight: Tensor, moments: TokenMoments) -> float:
    """From E[h hᵀ]: the mean of ‖W h‖² is the trace of W E[h hᵀ] Wᵀ."""
    wide = weight.double().cpu()
    return float(((wide @ moments.second) * wide).sum().sqrt())


class InputsAt(Reading):
    """Inputs of `down_proj` at one token of each text."""

    def __init__(
        self, base: LoadedModel, places: Sequence[int | None], layers: Sequence[int]
    ) -> None:
        """Args:
        places: by text: which token; None: the text is left out.

        Raises:
            InvalidRequest: a layer has no such matrix.
        """
        self.layers = layers
        self._places = places
        kept = [text for text, place in enumerate(places) if place is not None]
        self._rows = {text: row for row, text in enumerate(kept)}
        self.vectors = {
            layer: torch.zeros(len(kept), base.matrix(MatrixKey(layer, DOWN)).shape[1])
            for layer in layers
        }
        """By layer: fp32 `[kept texts, intermediate]` on the CPU."""

    def tensors(self) -> Iterable[Tensor]:
        return self.vectors.values()

    def at_layer(self, batch: Batch, layer: int, inputs: Tensor, residual: Tensor) -> None:
        kept = [(row, text) for row, text in enumerate(batch.index) if text in self._rows]
        if kept:
            places = [self._places[text] for _, text in kept]
            vectors = inputs[[row for row, _ in kept], places].float().cpu()
            self.vectors[layer][[self._rows[text] for _, text in kept]] = vectors


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
    reading = InputsAt(base, [0] * len(ids), layers)
    read_texts(base, [Encoded((i,), (True,), 0) for i in ids], [reading])
    border = len(fitted)
    return {
        layer: FirstTokens(place[:border].clone(), place[border:].clone())
        for layer, place in reading.vectors.items()
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
    reading = _Responses(directions, texts)
    read_texts(base, texts, [reading])
    spreads = {}
    for layer, (first, rest) in reading.responses.items():
        some = rest[:: len(rest) // 10_000_000 + 1]  # quantile takes 16 million at most
        low, high = torch.quantile(some, torch.tensor([0.05, 0.95]))
        rms = first.square().mean().sqrt()
        spreads[layer] = Spread(float(rest.mean()), float(low), float(high), float(rms))
    return spreads


class _Responses(Reading):
    """a · h at every token."""

    def __init__(self, directions: Mapping[int, Tensor], texts: Sequence[Encoded]) -> None:
        self.layers = list(directions)
        self._directions = directions
        self._first = torch.tensor([0, *accumulate(map(len, texts))])
        """By text: the place of its first token among all."""
        self._all = {layer: torch.zeros(int(self._first[-1])) for layer in directions}

    def tensors(self) -> Iterable[Tensor]:
        return self._all.values()

    def at_layer(self, batch: Batch, layer: int, inputs: Tensor, residual: Tensor) -> None:
        direction = self._directions[layer].to(inputs.device, torch.float32)
        places = self._first[list(batch.index)][:, None] + torch.arange(batch.real.shape[1])
        responses = (inputs.float() @ direction).cpu()
        self._all[layer][places[batch.real]] = responses[batch.real]

    @property
    def responses(self) -> dict[int, tuple[Tensor, Tensor]]:
        """By layer: at first tokens, and at all others."""
        first = torch.zeros(int(self._first[-1]), dtype=torch.bool)
        first[self._first[:-1]] = True
        return {layer: (every[first], every[~first]) for layer, every in self._all.items()}


def _usual_first_tokens(base: LoadedModel) -> list[int]:
    """First tokens of every chat, and of every text when the tokenizer adds one of its own."""
    firsts = set(base.start_ids)
    if base.has_chat_template:
        firsts.add(encode_prompt(base, "a", chat=True)[0])
    return sorted(firsts)
