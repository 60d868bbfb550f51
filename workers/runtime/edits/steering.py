"""Steer a model by adding vectors to its residual stream, without an edit of any weight.

The usual alternative to a weight edit (activation addition, arXiv 2308.10248; difference of means,
arXiv 2312.06681): the same vector is added after a layer at every position. It needs a hook in
the server, so it cannot be exported; Scalpel measures it to compare with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from models_store.errors import InvalidRequest
from workers.runtime.loading import LoadedModel


@contextmanager
def steered(base: LoadedModel, vectors: Mapping[int, Tensor]) -> Iterator[None]:
    """Within the block the residual stream after each layer `l` gains `vectors[l]`.

    Everything that runs the model is steered: reading, generating, with or without edits.

    Args:
        vectors: by layer, from 0: `[hidden]`, already as long as they are to be.

    Raises:
        InvalidRequest: the model has no such layer, or a vector does not fit it.
    """
    for layer, vector in vectors.items():
        if not 0 <= layer < base.layers or vector.shape != (base.hidden_size,):
            raise InvalidRequest(
                f"a steering vector for layer {layer} of shape {tuple(vector.shape)}; the model "
                f"has layers 0 to {base.layers - 1} and needs vectors of shape "
                f"({base.hidden_size},)"
            )
    hooks = [
        base.blocks[layer].register_forward_hook(_adding(vector))
        for layer, vector in vectors.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _adding(vector: Tensor) -> Any:
    """A forward hook that adds `vector` to the hidden states that a block gives."""

    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, tuple):
            return (_add(output[0], vector), *output[1:])
        return _add(output, vector)

    return hook


def _add(states: Tensor, vector: Tensor) -> Tensor:
    """In fp32 at least, rounded once: half precision would lose a short vector's small parts."""
    wide = torch.promote_types(states.dtype, torch.float32)
    added: Tensor = (states.to(wide) + vector.to(states.device, wide)).to(states.dtype)
    return added
