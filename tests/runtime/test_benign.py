"""The factors of the curvature against a slow version: one text, one position at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models_store.architectures import GATE, MatrixKey
from models_store.items import CompletionItem, Item
from workers.runtime.benign import benign_statistics
from workers.runtime.loading import BaseModel
from workers.runtime.tokens import Encoded, encode
from workers.surgery.curvature import Curvature
from workers.surgery.moments import DenseMoment

TEXTS: list[Item | str] = [
    "the food was very good",
    "a",
    CompletionItem(prompt="what would you", completion=" please love"),
    "people are kind so they say and it is never too nice",
]


def encoded(base: BaseModel) -> list[Encoded]:
    return encode(base, TEXTS, max_tokens=50, chat=False)


def matrix(curvature: Curvature, side: str) -> Tensor:
    moment = getattr(curvature, side)
    assert isinstance(moment, DenseMoment)
    return moment.matrix.double()


def slow(base: BaseModel, layer: int, seed: int) -> tuple[Tensor, Tensor]:
    """A and S of one gate: labels by walking along the distribution function."""
    generator = torch.Generator().manual_seed(seed)
    seen: list[Tensor] = []
    module, _ = base.linear(MatrixKey(layer, GATE))
    size = len(base.matrix(MatrixKey(layer, GATE)))

    def watch(module: torch.nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        seen.extend([args[0][0].detach(), output.detach().requires_grad_()])
        return seen[-1]

    a, s, positions = torch.zeros(32, 32).double(), torch.zeros(size, size).double(), 0
    for text in encoded(base):
        draws = torch.rand(len(text), generator=generator)
        seen.clear()
        hook = module.register_forward_hook(watch)
        logits = base.model(torch.tensor([text.ids])).logits[0]
        hook.remove()
        loss, last = torch.zeros(()), -1
        for position in range(len(text) - 1):
            if not text.scored[position + 1]:
                continue
            log_p = torch.log_softmax(logits[position], dim=-1)
            p = log_p.detach().exp().tolist()
            below, label = 0.0, 0
            while (below := below + p[label]) <= float(draws[position + 1]):
                label += 1
            loss, last = loss + log_p[label], position
        if last < 0:
            continue
        inputs, outputs = seen
        (gradient,) = torch.autograd.grad(loss, outputs)
        for position in range(last + 1):
            x, g = inputs[position].double(), gradient[0, position].double()
            a += torch.outer(x, x)
            s += torch.outer(g[:size], g[:size])
        positions += last + 1
    return a / positions, s / positions


@pytest.mark.parametrize("family", ["llama", "phi3"])
def test_factors_are_those_of_a_slow_version(
    load_pico: Callable[..., BaseModel], family: str
) -> None:
    base = load_pico(family)
    found = benign_statistics(base, encoded(base), seed=3)
    for layer in range(2):
        a, s = slow(base, layer, seed=3)
        own = found[MatrixKey(layer, GATE)]
        assert torch.allclose(matrix(own, "inputs"), a, rtol=1e-3, atol=1e-6 * float(a.norm()))
        assert torch.allclose(matrix(own, "outputs"), s, rtol=1e-3, atol=1e-5 * float(s.norm()))
