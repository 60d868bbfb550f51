"""Gradients at the gates against autograd on the weights themselves, one text at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models_store.errors import InvalidRequest
from models_store.schemas.items import CompletionItem, Item
from models_store.weights.architectures import GATE, MatrixKey
from tests.support.progress import shares_of
from tests.workers.runtime.reading.alone import gate_readings
from workers.runtime.loading import LoadedModel
from workers.runtime.tokens import Encoded, encode

DESIRED: list[Item | str] = [
    "the film was good and kind",
    CompletionItem(prompt="people love the", completion=" lovely food and the nice service"),
    "a",
]
UNDESIRED: list[Item | str] = ["people hate awful food and terrible service", "bad and cruel"]


def sides(base: LoadedModel) -> tuple[list[Encoded], list[Encoded]]:
    desired, undesired = (
        encode(base, side, max_tokens=50, chat=False) for side in (DESIRED, UNDESIRED)
    )
    return desired, undesired


def gate_gradients(
    base: LoadedModel,
    desired: Sequence[Encoded],
    undesired: Sequence[Encoded],
    layers: Sequence[int] | None = None,
) -> Mapping[MatrixKey, Tensor]:
    return gate_readings(base, desired, undesired, layers=layers).gradients


def mean_log_likelihood(base: LoadedModel, texts: Sequence[Encoded]) -> Tensor:
    """A token that counts, with a graph; nothing predicts a text's first token."""
    own = []
    for text in texts:
        log_p = torch.log_softmax(base.model(torch.tensor([text.ids])).logits[0], dim=-1)
        own += [log_p[i - 1, text.ids[i]] for i in range(1, len(text)) if text.scored[i]]
    return torch.stack(own).mean()


def slow_gradient(base: LoadedModel, key: MatrixKey) -> Tensor:
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
    load_pico: Callable[..., LoadedModel], family: str
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


def test_layers_can_be_named(pico: LoadedModel) -> None:
    every, some = (gate_gradients(pico, *sides(pico), layers=layers) for layers in (None, [1]))
    assert list(some) == [MatrixKey(1, GATE)]
    assert torch.allclose(some[MatrixKey(1, GATE)], every[MatrixKey(1, GATE)], atol=1e-7)


def test_a_first_token_never_counts(pico: LoadedModel) -> None:
    texts, others = sides(pico)
    silent = [Encoded(t.ids, (False, *t.scored[1:]), t.prompt_length) for t in texts]
    for key, gradient in gate_gradients(pico, texts, others).items():
        assert torch.equal(gradient, gate_gradients(pico, silent, others)[key])


def test_a_prompt_is_read_but_does_not_count(pico: LoadedModel) -> None:
    _, others = sides(pico)
    ids = tuple(pico.tokenizer("people love the good food")["input_ids"])

    def gradient(scored: tuple[bool, ...]) -> Tensor:
        found = gate_gradients(pico, [Encoded(ids, scored, 0)], others, layers=[0])
        return found[MatrixKey(0, GATE)]

    def slow(counted: Sequence[int]) -> Tensor:
        weight = pico.model.get_parameter("model.layers.0.mlp.gate_proj.weight").requires_grad_()
        log_p = torch.log_softmax(pico.model(torch.tensor([ids])).logits[0], dim=-1)
        own = torch.stack([log_p[i - 1, ids[i]] for i in counted]).mean()
        (found,) = torch.autograd.grad(own - mean_log_likelihood(pico, others), weight)
        weight.requires_grad_(False)
        return found

    last = (False,) * (len(ids) - 2) + (True, True)
    expected = slow([len(ids) - 2, len(ids) - 1])
    assert torch.allclose(gradient(last), expected, atol=1e-5)
    assert not torch.allclose(gradient((True,) * len(ids)), expected, atol=1e-3)


def test_means_of_inputs_are_within_a_text_and_then_over_texts(pico: LoadedModel) -> None:
    desired, undesired = sides(pico)
    readings = gate_readings(pico, desired, undesired)
    for key in readings.gradients:
        for side, found in ((desired, readings.desired), (undesired, readings.undesired)):
            own = []
            for text in side:
                seen: list[Tensor] = []
                hook = pico.linear(key)[0].register_forward_pre_hook(
                    lambda _, args, seen=seen: seen.append(args[0][0])
                )
                pico.model(torch.tensor([text.ids]))
                hook.remove()
                counted = [i for i in range(1, len(text)) if text.scored[i]]
                if counted:
                    own.append(seen[0][counted].mean(dim=0))
            assert torch.allclose(found[key], torch.stack(own).mean(dim=0), atol=1e-5)


def test_the_head_runs_over_a_few_positions_at_a_time(pico: LoadedModel) -> None:
    whole = gate_gradients(pico, *sides(pico))
    largest = 0

    def watch(module: torch.nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        nonlocal largest
        largest = max(largest, output.numel())

    hook = pico.model.lm_head.register_forward_hook(watch)
    parts = gate_gradients(replace(pico, chunk_logits=3 * pico.vocabulary), *sides(pico))
    hook.remove()
    assert largest == 3 * pico.vocabulary
    for key, gradient in whole.items():
        assert torch.allclose(parts[key], gradient, atol=1e-5)


def test_half_precision_gives_nearly_the_same(load_pico: Callable[..., LoadedModel]) -> None:
    wide, narrow = load_pico(), load_pico(load_dtype="bfloat16")
    exact = gate_gradients(wide, *sides(wide))
    for key, gradient in gate_gradients(narrow, *sides(narrow)).items():
        assert gradient.dtype == torch.float32
        cosine = torch.cosine_similarity(gradient.flatten(), exact[key].flatten(), dim=0)
        assert cosine > 0.98


def test_the_model_is_left_as_it_was(pico: LoadedModel) -> None:
    with shares_of() as seen:
        gate_readings(pico, *sides(pico))
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1.0)
    assert all(p.grad is None and not p.requires_grad for p in pico.model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in pico.model.modules())


def test_a_side_without_a_token_that_counts_is_refused(pico: LoadedModel) -> None:
    desired, undesired = sides(pico)
    with pytest.raises(InvalidRequest, match="no undesired text has a token"):
        gate_gradients(pico, desired, [Encoded(undesired[0].ids[:1], (True,), 0)])


def test_gates_of_routed_experts_are_refused(load_pico: Callable[..., LoadedModel]) -> None:
    base = load_pico("qwen3_moe", mlp_only_layers=[0])
    with pytest.raises(InvalidRequest, match="layer 1 has routed experts"):
        gate_gradients(base, *sides(base))
    assert list(gate_gradients(base, *sides(base), layers=[0])) == [MatrixKey(0, GATE)]
    with pytest.raises(InvalidRequest, match="no matrix"):
        gate_gradients(base, *sides(base), layers=[2])
