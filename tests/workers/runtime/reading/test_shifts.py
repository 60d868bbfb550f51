"""Gradients and curvature of shifts against autograd on a constant that is added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from torch import Tensor

from models_store.errors import InvalidRequest
from models_store.schemas.items import CompletionItem
from tests.workers.runtime.reading.alone import shift_gradients
from workers.runtime.loading import LoadedModel
from workers.runtime.reading.shifts import (
    PIECE_TOKENS,
    pieces_of,
    shift_curvature,
)
from workers.runtime.tokens import Encoded, encode

DESIRED = ["the film was good and kind", "lovely food and the nice service"]
UNDESIRED = ["people hate awful food and terrible service", "bad and cruel"]


def encoded(base: LoadedModel, texts: Sequence[str]) -> list[Encoded]:
    return encode(base, texts, max_tokens=50, chat=False)


def shifted_log_p(
    base: LoadedModel, layer: int, text: Encoded, places: slice = slice(1, None)
) -> tuple[Tensor, Tensor]:
    """A shift of zero at some tokens, and the log-probabilities of the next ones that depend on
    it."""
    shift = torch.zeros(base.hidden_size, requires_grad=True)

    def add(module: torch.nn.Module, args: object, output: Tensor) -> Tensor:
        mask = torch.zeros(output.shape[1], 1)
        mask[places] = 1
        return output + mask * shift

    hook = base.blocks[layer].get_submodule("mlp.down_proj").register_forward_hook(add)
    try:
        logits = base.model(torch.tensor([text.ids])).logits[0]
    finally:
        hook.remove()
    return shift, torch.log_softmax(logits[:-1].float(), dim=-1)


def slow_gradient(base: LoadedModel, layer: int, text: Encoded) -> Tensor:
    shift, log_p = shifted_log_p(base, layer, text)
    own = log_p.gather(1, torch.tensor(text.ids[1:])[:, None]).mean()
    (gradient,) = torch.autograd.grad(own, shift)
    return gradient


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_gradients_are_those_of_a_constant_that_is_added(
    load_pico: Callable[..., LoadedModel], family: str
) -> None:
    base = load_pico(family)
    desired, undesired = encoded(base, DESIRED), encoded(base, UNDESIRED)
    found = shift_gradients(base, desired, undesired, [0, 1])
    for layer, gradient in found.items():
        means = [
            torch.stack([slow_gradient(base, layer, text) for text in side]).mean(dim=0)
            for side in (desired, undesired)
        ]
        assert means[0].abs().max() > 1e-4
        assert torch.allclose(gradient, means[0] - means[1], rtol=1e-3, atol=1e-6)


def test_gradients_where_answers_start_are_those_of_a_constant_that_is_added_there(
    pico: LoadedModel,
) -> None:
    pairs = [("how is the food", "good and kind"), ("who are they", "nice people"), ("what", "bad")]
    answers = [CompletionItem(prompt=prompt, completion=answer) for prompt, answer in pairs]
    texts = encode(pico, answers, max_tokens=50, chat=False)
    plain = encoded(pico, UNDESIRED)
    sides = [*texts[:2], plain[0]], [texts[2], plain[1]]
    found = shift_gradients(pico, *sides, [0, 1], at_answer_starts=True)

    def slow(layer: int, text: Encoded) -> Tensor:
        start = text.prompt_length - 1
        shift, log_p = shifted_log_p(pico, layer, text, slice(start, start + 1))
        own = log_p.gather(1, torch.tensor(text.ids[1:])[:, None])[start:].mean()
        (gradient,) = torch.autograd.grad(own, shift)
        return gradient

    for layer, gradient in found.items():
        assert texts[2].prompt_length > 1
        desired = torch.stack([slow(layer, text) for text in texts[:2]]).mean(dim=0)
        assert torch.allclose(gradient, desired - slow(layer, texts[2]), rtol=1e-3, atol=1e-6)
    with pytest.raises(InvalidRequest, match="no undesired text"):
        shift_gradients(pico, texts, plain, [0], at_answer_starts=True)


def test_half_of_the_quadratic_form_is_the_kl(pico: LoadedModel) -> None:
    """Averaged over many draws: of 2 to each piece the estimate is as noisy as there are few."""
    text = encoded(pico, ["the food was good and the people were kind and nice to us " * 2])[0]
    piece = Encoded(text.ids[:PIECE_TOKENS], text.scored[:PIECE_TOKENS], 0)
    moment = shift_curvature(pico, [piece] * 400, [1])[1]
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(pico.hidden_size, generator=generator)
    direction /= direction.norm()
    shift, log_p = shifted_log_p(pico, 1, piece)
    # The Fisher matrix by definition: Σ over positions of E[∇ log p ∇ log pᵀ] over all labels.
    expected = 0.0
    for position in range(len(log_p)):
        gradients = [
            torch.autograd.grad(log_p[position, label], shift, retain_graph=True)[0]
            for label in torch.multinomial(
                log_p[position].detach().exp(), 60, replacement=True, generator=generator
            )
        ]
        expected += float(torch.stack([g @ direction for g in gradients]).square().mean())
    assert moment.quadratic(direction) == pytest.approx(expected / len(log_p), rel=0.25)


def test_pieces_begin_as_texts_begin(pico: LoadedModel) -> None:
    start = pico.tokenizer.convert_tokens_to_ids("<|im_start|>")
    pico.tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", start)]
    )
    (text,) = encoded(pico, ["the food was good and the people were kind and nice to us " * 3])
    pieces = pieces_of(text, pico.start_ids)
    assert len(pieces) >= 2
    assert {piece.ids[0] for piece in pieces} == {start}
    assert {len(piece) for piece in pieces} == {PIECE_TOKENS + 1}
    assert {piece.scored for piece in pieces} == {(False, *[True] * PIECE_TOKENS)}
    assert pieces[0].ids[1:] == text.ids[1 : PIECE_TOKENS + 1]

    read: set[tuple[int, ...]] = set()

    def seen(module: torch.nn.Module, args: object, kwargs: dict[str, Any]) -> None:
        read.update(map(tuple, kwargs["input_ids"].tolist()))

    with pico.decoder.register_forward_pre_hook(seen, with_kwargs=True):
        shift_curvature(pico, [text], [1])
    assert read == {piece.ids for piece in pieces}


def test_a_side_without_a_token_that_counts_is_refused(pico: LoadedModel) -> None:
    good, silent = encoded(pico, DESIRED), [Encoded((5,), (True,), 0)]
    with pytest.raises(InvalidRequest, match="no undesired text"):
        shift_gradients(pico, good, silent, [1])
    with pytest.raises(InvalidRequest, match="no neutral text"):
        shift_curvature(pico, silent, [1])
