"""What both sides of a behaviour do at gates: gradients of the weights, and mean inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models_store.errors import InvalidRequest
from models_store.weights.architectures import GATE, MatrixKey
from workers.runtime.loading import LoadedModel
from workers.runtime.reading.labelled import LabelledTexts
from workers.runtime.reading.passes import Reading
from workers.runtime.tokens import Batch


@dataclass(frozen=True, eq=False)
class GateReadings:
    """What both sides of a behaviour do at some gates; all by gate, fp32 on the CPU."""

    gradients: Mapping[MatrixKey, Tensor]
    """`[out, in]`: ∂/∂W (mean log p(desired) - mean log p(undesired)), in nats a token."""
    desired: Mapping[MatrixKey, Tensor]
    """`[in]`: mean input over tokens that count, but never a text's first; within a text, then
    over texts."""
    undesired: Mapping[MatrixKey, Tensor]
    """`[in]`."""


class Gates(Reading):
    """Log-likelihoods are means over all tokens of a side that count. Nothing predicts a text's
    first token, so it never counts."""

    def __init__(
        self, base: LoadedModel, sides: LabelledTexts, layers: Sequence[int] | None = None
    ) -> None:
        """Args:
        layers: whose gates to read; by default all.

        Raises:
            InvalidRequest: a layer has routed experts, or a side has no token that counts.
        """
        self.matrices = gate_keys(base, layers)
        self._sides = sides
        counts = sides.counts
        sides.require(counts, "has a token after its first one that counts")
        self._weights = sides.signs / sides.sums(counts)[sides.side]
        """By text: of the gradients of its tokens."""
        self._gradients = {
            key: torch.zeros_like(base.matrix(key), dtype=torch.float32) for key in self.matrices
        }
        self._inputs = {
            key: torch.zeros(2, base.hidden_size, dtype=torch.float64) for key in self.matrices
        }

    def tensors(self) -> Iterable[Tensor]:
        return [*self._gradients.values(), *self._inputs.values()]

    def at_matrix(self, batch: Batch, key: MatrixKey, inputs: Tensor, gradients: Tensor) -> None:
        real = batch.real.to(inputs.device)
        weights = self._weights[list(batch.index)].to(inputs.device)[:, None, None]
        self._gradients[key].addmm_((gradients.float() * weights)[real].T, inputs[real].float())
        self._sides.add_means_(self._inputs[key], batch, inputs)

    def result(self) -> GateReadings:
        return GateReadings(
            {key: gradient.cpu() for key, gradient in self._gradients.items()},
            {key: means[1].float() for key, means in self._inputs.items()},
            {key: means[0].float() for key, means in self._inputs.items()},
        )


def gate_keys(base: LoadedModel, layers: Sequence[int] | None = None) -> list[MatrixKey]:
    """The gates of `layers`, by default of all.

    Raises:
        InvalidRequest: there is no such layer, or it has routed experts.
    """
    numbers = range(base.layers) if layers is None else sorted(layers)
    for layer in numbers:
        if 0 <= layer < base.layers and base.architecture.experts[layer]:
            raise InvalidRequest(
                f"layer {layer} has routed experts, and gradients of their gates are not "
                "supported; name `layers` without experts or use the method model_surgery"
            )
    keys = [MatrixKey(layer, GATE) for layer in numbers]
    for key in keys:
        base.linear(key)
    return keys
