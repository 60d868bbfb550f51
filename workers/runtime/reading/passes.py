"""Pass texts through a base model, and sum up all that is read of them on the way.

A forward pass shows last hidden states, and the inputs of `down_proj` and the residual stream at
each layer. A backward pass shows what meets at a matrix: the gradient of its weight is Σ g xᵀ, with
x the input of the matrix and g the gradient at its output. Both are at hand for a moment when the
backward pass reaches the matrix, so no weight needs a gradient of its own. The weights stay without
gradients; the graph begins at the input of the first layer to read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from models_store.weights.architectures import DOWN, MatrixKey
from workers.runtime.loading import LoadedModel
from workers.runtime.tokens import Batch, Encoded, batches

_MAX_BATCH_TOKENS = 2048
"""Padded tokens of a batch that is read backward: what the backward pass needs is kept for every
layer, about 5 MB a token for a model of 7 billion weights."""
_COPIED_BYTES = 2 * 2**30
"""Sums that other processes may have beside those of this one."""


class Reading:
    """Sums up one thing over batches of texts, whose gradients do not depend on each other."""

    layers: Sequence[int] = ()
    """Where `at_layer` is called."""
    matrices: Sequence[MatrixKey] = ()
    """Where `at_matrix` is called: weights, or first rows, of linear modules. Needs gradients."""

    def tensors(self) -> Iterable[Tensor]:
        """The sums: those over some texts and those over others add up to those over all."""
        raise NotImplementedError

    def at_end(self, batch: Batch, states: Tensor) -> None:
        """Last hidden states, `[rows, length, hidden]`, with nothing of meaning in padding; these
        and all that follows in the model's dtype."""

    def at_layer(self, batch: Batch, layer: int, inputs: Tensor, residual: Tensor) -> None:
        """Inputs of `down_proj`, `[rows, length, intermediate]`, and the residual stream after the
        layer, `[rows, length, hidden]`."""

    def at_matrix(self, batch: Batch, key: MatrixKey, inputs: Tensor, gradients: Tensor) -> None:
        """Inputs of a matrix, `[rows, length, in]`, and gradients at its output, `[rows, length,
        out]`, of Σ log p(label) over all positions that predict a token that counts; padding has
        zeros."""


def read_texts(
    base: LoadedModel,
    texts: Sequence[Encoded],
    readings: Sequence[Reading],
    *,
    draws: Sequence[Tensor] | None = None,
    batch_tokens: int | None = None,
) -> None:
    """Pass texts through the model once for all of some readings.

    Args:
        draws: by text, one number in [0, 1) a token: labels are then drawn from the model by
            them. By default the labels are the texts themselves.
    """
    matrices = {key for reading in readings for key in reading.matrices}
    size = batch_tokens or min(base.batch_tokens, _MAX_BATCH_TOKENS if matrices else 2**31)
    tensors = [tensor for reading in readings for tensor in reading.tensors()]
    most = 1 + _COPIED_BYTES // max(1, sum(tensor.nbytes for tensor in tensors))
    graph = _graph_from(base, min(key.layer for key in matrices)) if matrices else nullcontext()
    tokens = sum(map(len, texts)) * (3 if matrices else 1)
    with base.ranks_for(tokens, most=most) as ranks, torch.no_grad(), graph:
        if ranks.rank:
            for tensor in tensors:
                tensor.zero_()
        for batch in batches(texts, tokens=size, pad_id=base.pad_id, ranks=ranks):
            predicting = batch.scored[:, 1:]
            backward = bool(matrices) and bool(predicting.any())
            with torch.set_grad_enabled(backward), _taps(base, batch, readings, backward):
                ids = batch.ids.to(base.device)
                hidden = base.decoder(input_ids=ids, use_cache=False).last_hidden_state
                for reading in readings:
                    reading.at_end(batch, hidden.detach())
                if backward:
                    states = hidden[:, :-1][predicting.to(hidden.device)]
                    labels = batch.ids[:, 1:][predicting]
                    drawn = None if draws is None else _gather(draws, batch)[predicting]
                    states.backward(_head_gradient(base, states.detach(), labels, drawn))
        ranks.add_up(tensors)


def _gather(draws: Sequence[Tensor], batch: Batch) -> Tensor:
    """The draws for the tokens that each position of a batch predicts, `[rows, length - 1]`."""
    gathered = torch.zeros(batch.ids.shape)
    for row, text in enumerate(batch.index):
        gathered[row, : len(draws[text])] = draws[text]
    return gathered[:, 1:]


@torch.no_grad()
def _head_gradient(
    base: LoadedModel, states: Tensor, labels: Tensor, draws: Tensor | None
) -> Tensor:
    """Gradient of Σ log p(label) at last hidden states `[n, hidden]`, a few hundred at a time."""
    gradients = []
    for part in torch.split(
        torch.arange(len(states)), max(1, base.chunk_logits // base.vocabulary)
    ):
        leaf = states[part.to(states.device)].requires_grad_()
        with torch.enable_grad():
            logits = base.logits(leaf)
        wide = torch.promote_types(logits.dtype, torch.float32)
        probabilities = torch.softmax(logits.detach().to(wide), dim=-1)
        targets = labels[part].to(logits.device)[:, None]
        if draws is not None:
            targets = _invert(probabilities, draws[part].to(logits.device, wide)[:, None])
        # ∂ log p(label) / ∂ logits = [label] - p
        at_logits = probabilities.neg_().scatter_add_(
            1, targets, torch.ones_like(targets, dtype=wide)
        )
        (gradient,) = torch.autograd.grad(logits, leaf, at_logits.to(logits.dtype))
        gradients.append(gradient)
    return torch.cat(gradients)


def _invert(probabilities: Tensor, draws: Tensor) -> Tensor:
    """Invert distribution functions: `[n, vocabulary]`, `[n, 1]` to labels `[n, 1]`."""
    reached = probabilities.cumsum(dim=-1)
    place = torch.searchsorted(reached, draws * reached[:, -1:], right=True)
    return place.clamp_max_(probabilities.shape[-1] - 1)


@contextmanager
def _graph_from(base: LoadedModel, layer: int) -> Iterator[None]:
    """Within the block of code, gradients flow back to the input of a layer and no further."""

    def begin(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        states = args[0].detach()
        return (states.requires_grad_() if torch.is_grad_enabled() else states, *args[1:])

    hook = base.blocks[layer].register_forward_pre_hook(begin)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def _taps(
    base: LoadedModel, batch: Batch, readings: Sequence[Reading], backward: bool
) -> Iterator[None]:
    """Within the block of code all passes are shown to those readings that look at them."""
    hooks = []
    inputs: dict[int, Tensor] = {}
    by_layer = _users([(layer, reading) for reading in readings for layer in reading.layers])
    for layer, users in by_layer.items():

        def keep(module: nn.Module, args: tuple[Any, ...], layer: int = layer) -> None:
            inputs[layer] = args[0].detach()

        def show(
            module: nn.Module,
            args: tuple[Any, ...],
            output: Any,
            layer: int = layer,
            users: Sequence[Reading] = users,
        ) -> None:
            residual = (output[0] if isinstance(output, tuple) else output).detach()
            for reading in users:
                reading.at_layer(batch, layer, inputs[layer], residual)
            del inputs[layer]

        down, _ = base.linear(MatrixKey(layer, DOWN))
        hooks.append(down.register_forward_pre_hook(keep))
        hooks.append(base.blocks[layer].register_forward_hook(show))
    by_matrix = _users([(key, reading) for reading in readings for key in reading.matrices])
    for key, users in by_matrix.items() if backward else ():
        module, first = base.linear(key)
        rows = slice(first, first + len(base.matrix(key)))

        def tap(
            module: nn.Module,
            args: tuple[Any, ...],
            output: Tensor,
            key: MatrixKey = key,
            rows: slice = rows,
            users: Sequence[Reading] = users,
        ) -> None:
            inputs = args[0].detach()

            def at_output(gradient: Tensor) -> None:
                for reading in users:
                    reading.at_matrix(batch, key, inputs, gradient[..., rows])

            output.register_hook(at_output)  # type: ignore[no-untyped-call]

        hooks.append(module.register_forward_hook(tap))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _users(pairs: Iterable[tuple[Any, Reading]]) -> dict[Any, list[Reading]]:
    users: dict[Any, list[Reading]] = {}
    for place, reading in pairs:
        users.setdefault(place, []).append(reading)
    return users
