"""Train rank-one changes of `down_proj` so that a model predicts what it does with a prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models_store.errors import EditFailed
from models_store.weights.architectures import DOWN, MatrixKey
from workers import progress
from workers.runtime.loading import LoadedModel
from workers.runtime.tokens import Encoded, batches

EPOCHS = 5
_ANSWERS, _NEUTRAL = 8, 4
"""Texts of a step."""
_RATE = 3e-3
"""Of Adam."""
_SPREAD = 0.05
"""Standard deviation of the directions at the start; the shifts start at 0."""


@dataclass(frozen=True, eq=False)
class Distilled:
    """What was trained."""

    changes: Mapping[int, tuple[Tensor, Tensor]]
    """By layer: a and r of `W_down += r aᵀ`, fp32 `[intermediate]` and `[hidden]` on the CPU."""
    losses: Sequence[float]
    """Mean KL to the model with the prompt, nats a token, of each epoch; the first steps change
    nothing yet."""
    answers: int


def distilled(
    base: LoadedModel,
    answers: Sequence[tuple[Encoded, Encoded]],
    neutral: Sequence[Encoded],
    layers: Sequence[int],
    *,
    seed: int,
    epochs: int = EPOCHS,
) -> Distilled:
    """Train one change a layer, all together.

    Args:
        answers: the model's own, each after its prompt with and without the instruction.
        neutral: texts that are to stay as they are.

    Raises:
        EditFailed: the losses are not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    told, asked = [one for one, _ in answers], [other for _, other in answers]
    changes = {layer: _Change(base, layer, generator) for layer in layers}
    parameters = [tensor for change in changes.values() for tensor in (change.a, change.r)]
    adam = torch.optim.Adam(parameters, lr=_RATE)
    taught, known = (list(_states(base, texts)) for texts in (told, neutral))
    losses = []
    with _hooked(base, changes):
        for _ in progress.track(range(epochs)):
            order = torch.randperm(len(asked), generator=generator).tolist()
            total = tokens = 0.0
            for start in range(0, len(order), _ANSWERS):
                step = order[start : start + _ANSWERS]
                kept = torch.randint(len(neutral), (_NEUTRAL,), generator=generator).tolist()
                adam.zero_grad()
                loss, count = _backward(base, [asked[i] for i in step], [taught[i] for i in step])
                _backward(base, [neutral[i] for i in kept], [known[i] for i in kept])
                adam.step()
                total, tokens = total + loss, tokens + count
            losses.append(total / tokens)
    if not all(map(torch.isfinite, map(torch.tensor, losses))):
        raise EditFailed("training on the prompt's answers led nowhere: the losses are not finite")
    found = {
        layer: (change.a.detach().cpu(), change.r.detach().cpu())
        for layer, change in changes.items()
    }
    return Distilled(found, tuple(losses), len(answers))


class _Change:
    """`r aᵀ` beside the `down_proj` of a layer."""

    def __init__(self, base: LoadedModel, layer: int, generator: torch.Generator) -> None:
        self.module, _ = base.linear(MatrixKey(layer, DOWN))
        hidden, width = base.matrix(MatrixKey(layer, DOWN)).shape
        device = base.matrix(MatrixKey(layer, DOWN)).device
        a = _SPREAD * torch.randn(width, generator=generator)
        self.a = a.to(device).requires_grad_()
        self.r = torch.zeros(hidden, device=device, requires_grad=True)

    def add(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        change = (args[0].to(self.a.dtype) @ self.a)[..., None] * self.r
        changed: Tensor = output + change.to(output.dtype)
        return changed


@contextmanager
def _hooked(base: LoadedModel, changes: Mapping[int, _Change]) -> Iterator[None]:
    """Within the block of code the changes take part in the model."""
    hooks = [change.module.register_forward_hook(change.add) for change in changes.values()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def _states(base: LoadedModel, texts: Sequence[Encoded]) -> Iterator[Tensor]:
    """Last hidden states where a token that counts is predicted, text by text."""
    found: dict[int, Tensor] = {}
    for batch in batches(texts, tokens=base.batch_tokens, pad_id=base.pad_id):
        hidden = base.decoder(input_ids=batch.ids.to(base.device), use_cache=False)
        for row, place in enumerate(batch.index):
            predicting = batch.scored[row, 1:].to(base.device)
            found[place] = hidden.last_hidden_state[row, :-1][predicting]
    for place in range(len(texts)):
        yield found[place]


def _backward(
    base: LoadedModel, texts: Sequence[Encoded], reference: Sequence[Tensor]
) -> tuple[float, int]:
    """Add the gradients of the mean KL to the reference over the texts' tokens that count.

    Returns:
        The sum over the tokens, in nats, and their number.
    """
    total, count = 0.0, sum(map(len, reference))
    for batch in batches(texts, tokens=base.batch_tokens, pad_id=base.pad_id):
        hidden = base.decoder(input_ids=batch.ids.to(base.device), use_cache=False)
        states = hidden.last_hidden_state[:, :-1][batch.scored[:, 1:].to(base.device)]
        wanted = torch.cat([reference[place] for place in batch.index])
        divergence, gradient = _divergence(base, states.detach(), wanted)
        states.backward(gradient / count)
        total += divergence
    return total, count


def _divergence(base: LoadedModel, states: Tensor, reference: Tensor) -> tuple[float, Tensor]:
    """Σ KL(reference ‖ states) of last hidden states `[n, hidden]`, and its gradient at `states`, a
    few hundred at a time."""
    total, gradients = 0.0, []
    size = max(1, base.chunk_logits // base.vocabulary)
    parts = zip(torch.split(states, size), torch.split(reference, size), strict=True)
    for part, other in parts:
        with torch.no_grad():
            wanted = torch.log_softmax(base.logits(other).float(), dim=-1)
        leaf = part.requires_grad_()
        logits = base.logits(leaf)
        given = torch.log_softmax(logits.detach().float(), dim=-1)
        total += float((wanted.exp() * (wanted - given)).sum())
        at_logits = given.exp() - wanted.exp()
        (gradient,) = torch.autograd.grad(logits, leaf, at_logits.to(logits.dtype))
        gradients.append(gradient)
    return total, torch.cat(gradients)
