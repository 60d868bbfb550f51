"""Curvature of gates on the model's own text: the two factors of K-FAC's Fisher matrix.

They say which inputs are common and which outputs matter, whatever an edit is for, so they depend
on the base model and the neutral texts alone and can be kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from models_store.errors import InvalidRequest
from models_store.weights.architectures import MatrixKey
from workers.runtime.loading import LoadedModel
from workers.runtime.reading.gradients import gate_keys
from workers.runtime.reading.passes import Reading, read_texts
from workers.runtime.tokens import Batch, Encoded
from workers.surgery.curvature import Curvature
from workers.surgery.moments import MomentSum, moment_sum

BENIGN_VERSION = 1
"""Part of the key of cached statistics: raise it when the numbers change."""


def benign_statistics(
    base: LoadedModel,
    texts: Sequence[Encoded],
    *,
    seed: int = 0,
    layers: Sequence[int] | None = None,
) -> Mapping[MatrixKey, Curvature]:
    """A = E[x xᵀ] of the inputs of gates and S = E[g gᵀ] of the gradients at their outputs.

    The gradients are those of Σ log p(label) over a text's positions that predict a token that
    counts, with labels that the model draws at temperature 1: with the texts' own tokens S would
    not be the Fisher matrix. E is over the positions that some label depends on, so not over the
    last of a text. A label depends on the seed, the text and its place among the texts, not on
    the batch.

    Args:
        layers: whose gates to read; by default all.

    Raises:
        InvalidRequest: a layer has routed experts, or no text has a token that counts.
    """
    keys = gate_keys(base, layers)
    if not any(any(text.scored[1:]) for text in texts):
        raise InvalidRequest("no neutral text has a token after its first one that counts")
    generator = torch.Generator().manual_seed(seed)
    draws = [torch.rand(len(text), generator=generator) for text in texts]
    reading = _Curvature(base, keys)
    read_texts(base, texts, [reading], draws=draws)
    return {
        key: Curvature(inputs.moment(), outputs.moment())
        for key, (inputs, outputs) in reading.sums.items()
    }


class _Curvature(Reading):
    def __init__(self, base: LoadedModel, keys: Sequence[MatrixKey]) -> None:
        self.matrices = keys
        self.sums: dict[MatrixKey, tuple[MomentSum, MomentSum]] = {}
        for key in keys:
            matrix = base.matrix(key)
            rows, columns = matrix.shape
            device = matrix.device
            self.sums[key] = moment_sum(columns, device), moment_sum(rows, device)

    def tensors(self) -> Iterable[Tensor]:
        return [tensor for both in self.sums.values() for part in both for tensor in part.tensors()]

    def at_matrix(self, batch: Batch, key: MatrixKey, inputs: Tensor, gradients: Tensor) -> None:
        # Attention is causal: nothing depends on a position after the last that predicts.
        later = batch.scored[:, 1:].flip(1).cumsum(dim=1).flip(1)
        matters = (later > 0).to(inputs.device)
        at_inputs, at_outputs = self.sums[key]
        at_inputs.add_(inputs[:, :-1][matters])
        at_outputs.add_(gradients[:, :-1][matters])
