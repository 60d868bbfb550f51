"""A model learns to predict without an instruction what it predicts with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from models_store.weights.architectures import DOWN, MatrixKey
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel
from workers.runtime.reading.distilling import _divergence, distilled
from workers.runtime.tokens import Encoded, encode, encode_prompt
from workers.surgery.terms import Term, make_term

ANSWERS = [
    ("how is the food", "the food was awful and the service bad"),
    ("who are they", "they are cruel people"),
    ("is it good", "no it is terrible"),
    ("what did you see", "people hate the film"),
]
LAYERS = (0, 1)


def answers(base: LoadedModel) -> list[tuple[Encoded, Encoded]]:
    def ids(text: str) -> list[int]:
        return encode_prompt(base, text, chat=False)

    return [
        (
            Encoded.response(ids(f"nice and kind people say {prompt}"), ids(answer)),
            Encoded.response(ids(prompt), ids(answer)),
        )
        for prompt, answer in ANSWERS
    ]


def log_p(base: LoadedModel, text: Encoded, terms: Sequence[Term] = ()) -> Tensor:
    """Of all tokens, where one of the answer is predicted: a plain pass of one text."""
    with EditedModel(base).plus(terms).active(), torch.no_grad():
        logits = base.model(torch.tensor([text.ids])).logits[0, text.prompt_length - 1 : -1]
    return torch.log_softmax(logits.float(), dim=-1)


def kl(base: LoadedModel, terms: Sequence[Term] = ()) -> float:
    """Mean over tokens from the model with the instruction to that without, and with the terms."""
    each = []
    for told, asked in answers(base):
        p, q = log_p(base, told), log_p(base, asked, terms)
        each.append((p.exp() * (p - q)).sum(dim=-1))
    return float(torch.cat(each).mean())


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_what_is_trained_brings_the_model_nearer_to_itself_with_the_instruction(
    load_pico: Callable[..., LoadedModel], family: str
) -> None:
    base = load_pico(family)
    neutral = encode(base, ["the garden is near the station"] * 4, max_tokens=50, chat=False)
    found = distilled(base, answers(base), neutral, LAYERS, seed=0, epochs=200)
    terms = [
        make_term(MatrixKey(layer, DOWN), a, torch.arange(len(r)), r)
        for layer, (a, r) in found.changes.items()
    ]
    assert [term.layer for term in terms] == list(LAYERS)
    before, after = kl(base), kl(base, terms)
    assert found.answers == len(ANSWERS)
    assert found.losses[0] == pytest.approx(before, rel=1e-3)
    assert after < 0.75 * before
    # The terms beside the weights are what was trained.
    assert after == pytest.approx(found.losses[-1], rel=0.2)
    assert not any(p.requires_grad for p in base.model.parameters())


def test_training_again_gives_the_same(pico: LoadedModel) -> None:
    neutral = encode(pico, ["the garden is near"], max_tokens=50, chat=False)
    first, second = (
        distilled(pico, answers(pico), neutral, LAYERS, seed=3, epochs=2) for _ in range(2)
    )
    other = distilled(pico, answers(pico), neutral, LAYERS, seed=4, epochs=2)
    for layer in LAYERS:
        for one, again in zip(first.changes[layer], second.changes[layer], strict=True):
            assert torch.equal(one, again)
        assert not torch.equal(first.changes[layer][0], other.changes[layer][0])


def test_the_gradient_of_the_divergence_is_that_of_autograd(pico: LoadedModel) -> None:
    generator = torch.Generator().manual_seed(0)
    states, reference = torch.randn(2, 7, pico.hidden_size, generator=generator)
    total, gradient = _divergence(pico, states.clone(), reference)
    leaf = states.clone().requires_grad_()
    p = torch.log_softmax(pico.logits(reference).float(), dim=-1)
    q = torch.log_softmax(pico.logits(leaf).float(), dim=-1)
    expected = (p.exp() * (p - q)).sum()
    expected.backward()
    assert total == pytest.approx(expected.item(), rel=1e-5)
    assert leaf.grad is not None
    assert torch.allclose(gradient, leaf.grad, rtol=1e-4, atol=1e-6)
