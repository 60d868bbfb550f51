"""Read hidden states out of a base model, each text once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from workers.runtime.loading import LoadedModel
from workers.runtime.tokens import Batch, Encoded, batches

EXTRACTOR_VERSION = 1
"""Part of the key of cached features: raise it when the numbers change."""


def features(
    base: LoadedModel,
    texts: Sequence[Encoded],
    *,
    batch_tokens: int | None = None,
) -> Tensor:
    """Mean over the tokens that count of the last hidden state, after the final norm.

    The head is never run. Pooling is in fp32 whatever the model's dtype.

    Returns:
        fp32 `[texts, hidden]` on the CPU, in the order of the texts.
    """
    pooled = torch.empty(len(texts), base.hidden_size)
    for batch, states in last_hidden_states(base, texts, batch_tokens=batch_tokens):
        weights = batch.scored.to(states.device, torch.float32)
        weights /= weights.sum(dim=1, keepdim=True)
        mean = torch.bmm(weights[:, None], states.float())[:, 0]
        pooled[list(batch.index)] = mean.cpu()
    return pooled


@torch.no_grad()
def last_hidden_states(
    base: LoadedModel,
    texts: Sequence[Encoded],
    *,
    batch_tokens: int | None = None,
) -> Iterator[tuple[Batch, Tensor]]:
    """The last hidden states batch by batch, `[rows, length, hidden]` in the model's dtype.

    Positions that are not `real` hold nothing of meaning.
    """
    for batch in batches(texts, tokens=batch_tokens or base.batch_tokens, pad_id=base.pad_id):
        ids = batch.ids.to(base.device)
        yield batch, base.decoder(input_ids=ids, use_cache=False).last_hidden_state


@torch.no_grad()
def visit_layers(
    base: LoadedModel,
    texts: Sequence[Encoded],
    layers: Sequence[int],
    visit: Callable[[Batch, int, Tensor, Tensor], None],
    *,
    batch_tokens: int | None = None,
) -> None:
    """Run the texts and hand over what passes through some layers, keeping nothing.

    Args:
        visit: called as `visit(batch, layer, inputs, residual)` for each batch and layer:
            `inputs` are those of `down_proj`, `[rows, length, intermediate]`, and `residual` is
            the residual stream after the layer, `[rows, length, hidden]`, in the model's dtype.
    """
    inputs: dict[int, Tensor] = {}
    residual: dict[int, Tensor] = {}
    with _captured(base, layers, inputs, residual):
        for batch in batches(texts, tokens=batch_tokens or base.batch_tokens, pad_id=base.pad_id):
            base.decoder(input_ids=batch.ids.to(base.device), use_cache=False)
            for layer in layers:
                visit(batch, layer, inputs.pop(layer), residual.pop(layer))


@contextmanager
def _captured(
    base: LoadedModel,
    layers: Sequence[int],
    inputs: dict[int, Tensor],
    residual: dict[int, Tensor],
) -> Iterator[None]:
    """Within the block each forward pass leaves its tensors of `layers` in the two dicts."""
    hooks = []
    for layer in layers:
        block = base.blocks[layer]

        def keep_inputs(module: nn.Module, args: tuple[Any, ...], layer: int = layer) -> None:
            inputs[layer] = args[0]

        def keep_residual(
            module: nn.Module, args: tuple[Any, ...], output: Any, layer: int = layer
        ) -> None:
            residual[layer] = output[0] if isinstance(output, tuple) else output

        down = block.get_submodule("mlp.down_proj")
        hooks.append(down.register_forward_pre_hook(keep_inputs))
        hooks.append(block.register_forward_hook(keep_residual))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
