"""Run a base model backward and read what meets at its matrices: inputs and output gradients.

The gradient of a weight is Σ g xᵀ, with x the input of its matrix and g the gradient at its
output. Both are at hand for a moment when the backward pass reaches the matrix: there they are
summed up, so no weight needs a gradient of its own. The weights stay without gradients; the graph
begins at the input of the first layer to read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from models_store.errors import InvalidRequest
from models_store.weights.architectures import GATE, MatrixKey
from workers import progress
from workers.runtime.likelihood import CHUNK_LOGITS
from workers.runtime.loading import LoadedModel
from workers.runtime.tokens import Batch, Encoded, batches

_MAX_BATCH_TOKENS = 2048
"""Padded tokens of a batch: what the backward pass needs is kept for every layer, about 5 MB a
token for a model of 7 billion weights."""

Visit = Callable[[Batch, MatrixKey, Tensor, Tensor], None]


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


def gate_readings(
    base: LoadedModel,
    desired: Sequence[Encoded],
    undesired: Sequence[Encoded],
    *,
    layers: Sequence[int] | None = None,
) -> GateReadings:
    """Run both sides forward and backward once.

    Log-likelihoods are means over all tokens of a side that count. Nothing predicts a text's
    first token, so it never counts.

    Args:
        layers: whose gates to read; by default all.

    Raises:
        InvalidRequest: a layer has routed experts, or a side has no token that counts.
    """
    keys = gate_keys(base, layers)
    gradients = {key: torch.zeros_like(base.matrix(key), dtype=torch.float32) for key in keys}
    border = sum(map(len, desired)) / sum(map(len, [*desired, *undesired]))
    with progress.step("desired", border):
        wanted = _read_side(base, "desired", desired, gradients, 1)
    with progress.step("undesired"):
        unwanted = _read_side(base, "undesired", undesired, gradients, -1)
    return GateReadings({key: g.cpu() for key, g in gradients.items()}, wanted, unwanted)


def _read_side(
    base: LoadedModel,
    name: str,
    texts: Sequence[Encoded],
    gradients: Mapping[MatrixKey, Tensor],
    sign: int,
) -> Mapping[MatrixKey, Tensor]:
    """Add the gradients of sign · mean log p(texts) to `gradients`; returns the mean inputs."""
    counted = sum(sum(text.scored[1:]) for text in texts)
    if not counted:
        raise InvalidRequest(f"no {name} text has a token after its first one that counts")
    inputs = {key: _TextMeans(len(texts), base.hidden_size) for key in gradients}

    def visit(batch: Batch, key: MatrixKey, x: Tensor, g: Tensor) -> None:
        real = batch.real.to(x.device)
        gradients[key].addmm_(g[real].float().T, x[real].float(), alpha=sign / counted)
        inputs[key].add_(batch, x)

    visit_matrices(base, texts, list(gradients), visit)
    return {key: means.mean() for key, means in inputs.items()}


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


def visit_matrices(
    base: LoadedModel,
    texts: Sequence[Encoded],
    keys: Sequence[MatrixKey],
    visit: Visit,
    *,
    draws: Sequence[Tensor] | None = None,
) -> None:
    """Run the texts forward and backward and hand over what meets at some matrices.

    Nothing is kept.

    The objective is Σ log p(label) over all positions that predict a token that counts. A text's
    gradients do not depend on the others in its batch.

    Args:
        keys: of matrices that are the weight, or the first rows, of a linear module; at least one.
        visit: called as `visit(batch, key, inputs, gradients)` for each batch and matrix:
            `[rows, length, in]` and `[rows, length, out]` in the model's dtype. Gradients are
            those of the objective at the matrix' output; padding has zeros.
        draws: by text, one number in [0, 1) a token: labels are then drawn from the model by
            them. By default the labels are the texts themselves.
    """
    tokens = min(base.batch_tokens, _MAX_BATCH_TOKENS)
    with _graph_from(base.blocks[min(key.layer for key in keys)]):
        for batch in batches(texts, tokens=tokens, pad_id=base.pad_id):
            predicting = batch.scored[:, 1:]
            if predicting.any():
                with torch.enable_grad(), _tapped(base, keys, partial(visit, batch)):
                    hidden = base.decoder(
                        input_ids=batch.ids.to(base.device), use_cache=False
                    ).last_hidden_state
                    states = hidden[:, :-1][predicting.to(hidden.device)]
                    labels = batch.ids[:, 1:][predicting]
                    drawn = None if draws is None else _gather(draws, batch)[predicting]
                    states.backward(_head_gradient(base, states.detach(), labels, drawn))


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
    for part in torch.split(torch.arange(len(states)), max(1, CHUNK_LOGITS // base.vocabulary)):
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
def _graph_from(block: nn.Module) -> Iterator[None]:
    """Within the block of code, gradients flow back to the input of `block` and no further."""

    def begin(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0].detach().requires_grad_(), *args[1:])

    hook = block.register_forward_pre_hook(begin)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def _tapped(
    base: LoadedModel,
    keys: Sequence[MatrixKey],
    visit: Callable[[MatrixKey, Tensor, Tensor], None],
) -> Iterator[None]:
    """Within the block each backward pass calls `visit(key, inputs, gradients)` for each gate."""
    hooks = []
    for key in keys:
        module, first = base.linear(key)
        rows = slice(first, first + len(base.matrix(key)))

        def tap(
            module: nn.Module,
            args: tuple[Any, ...],
            output: Tensor,
            key: MatrixKey = key,
            rows: slice = rows,
        ) -> None:
            inputs = args[0].detach()

            def at_output(gradient: Tensor) -> None:
                visit(key, inputs, gradient[..., rows])

            output.register_hook(at_output)  # type: ignore[no-untyped-call]

        hooks.append(module.register_forward_hook(tap))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _TextMeans:
    """Mean inputs of one gate by text, over tokens that count but never the first."""

    def __init__(self, texts: int, size: int) -> None:
        self._means = torch.full((texts, size), float("nan"), dtype=torch.float64)
        """NaN for a text with no such token."""

    def add_(self, batch: Batch, inputs: Tensor) -> None:
        counted = batch.scored.clone()
        counted[:, 0] = False
        weights = counted.to(inputs.device, torch.float32)
        sums = torch.bmm(weights[:, None], inputs.float())[:, 0]
        self._means[list(batch.index)] = (sums / weights.sum(dim=1, keepdim=True)).double().cpu()

    def mean(self) -> Tensor:
        return self._means.nanmean(dim=0).float()
