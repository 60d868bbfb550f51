"""Gradients at the gates against autograd on the weights themselves, one text at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from models_store.architectures import GATE, MatrixKey
from models_store.items import CompletionItem, Item
from workers.runtime.gradients import gate_gradients
from workers.runtime.loading import BaseModel
from workers.runtime.tokens import Encoded, encode

DESIRED: list[Item | str] = [
    "the film was good and kind",
    CompletionItem(prompt="people love the", completion=" lovely food and the nice service"),
    "a",
]
UNDESIRED: list[Item | str] = ["people hate awful food and terrible service", "bad and cruel"]


def sides(base: BaseModel) -> tuple[list[Encoded], list[Encoded]]:
    desired, undesired = (
        encode(base, side, max_tokens=50, chat=False) for side in (DESIRED, UNDESIRED)
    )
    return desired, undesired


def mean_log_likelihood(base: BaseModel, texts: Sequence[Encoded]) -> Tensor:
    """A token that counts, with a graph; nothing predicts a text's first token."""
    own = []
    for text in texts:
        log_p = torch.log_softmax(base.model(torch.tensor([text.ids])).logits[0], dim=-1)
        own += [log_p[i - 1, text.ids[i]] for i in range(1, len(text)) if text.scored[i]]
    return torch.stack(own).mean()


def slow_gradient(base: BaseModel, key: MatrixKey) -> Tensor:
    """By autograd on the whole weight, `[out, in]` of the logical matrix."""
    desired, undesired = sides(base)
    name = base.architecture.tensor(key)
    weight = base.model.get_parameter(name).requires_grad_()
    difference = mean_log_likelihood(base, desired) - mean_log_likelihood(base, undesired)
    (gradient,) = torch.autograd.grad(difference, weight)
    weight.requires_grad_(False)
    return gradient[: len(base.matrix(key))]


@pytest.mark.parametrize("family", ["llama", "phi3", "gemma2", "gemma3_text", "qwen3"])
def test_gradients_are_those_of_the_weights(
    load_pico: Callable[..., BaseModel], family: str
) -> None:
    base = load_pico(family)
    found = gate_gradients(base, *sides(base))
    assert list(found) == [MatrixKey(0, GATE), MatrixKey(1, GATE)]
    for key, gradient in found.items():
        expected = slow_gradient(base, key)
        assert gradient.shape == (64, 32)
        assert gradient.dtype == torch.float32
        assert expected.abs().max() > 1e-4
        assert torch.allclose(gradient, expected, rtol=1e-3, atol=1e-6 * float(expected.norm()))
