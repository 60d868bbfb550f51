"""Features are the mean over the tokens that count, whatever the batch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from models_store.schemas.items import CompletionItem
from tests.support.progress import shares_of
from tests.workers.runtime.reading.alone import visit_layers
from workers import progress
from workers.runtime.loading import LoadedModel
from workers.runtime.reading.extract import features
from workers.runtime.tokens import Batch, Encoded, encode

ITEMS = [
    "the film was good",
    "a",
    CompletionItem(prompt="people", completion=" hate awful food and service every day"),
    "you are so kind and the food is very nice " * 3,
]


def encoded(base: LoadedModel) -> list[Encoded]:
    return encode(base, ITEMS, max_tokens=30, chat=False)


@pytest.mark.parametrize("model_type", ["llama", "gemma2", "gemma3_text", "mixtral", "phi3"])
def test_features_are_those_of_each_text_alone(
    load_pico: Callable[..., LoadedModel], model_type: str
) -> None:
    base = load_pico(model_type)
    for batch_tokens in (1, 40, 4000):
        found = features(base, encoded(base), batch_tokens=batch_tokens)
        for row, text in zip(found, encoded(base), strict=True):
            states = base.model.model(torch.tensor([text.ids])).last_hidden_state[0]
            mean = states[torch.tensor(text.scored)].double().mean(dim=0)
            assert torch.allclose(row.double(), mean, atol=1e-5)


def test_bf16_states_are_pooled_in_fp32(load_pico: Callable[..., LoadedModel]) -> None:
    base = load_pico(load_dtype="bfloat16")
    text = encoded(base)[3]
    (pooled,) = features(base, [text])
    states = base.model.model(torch.tensor([text.ids])).last_hidden_state[0]
    assert pooled.dtype == torch.float32
    assert torch.allclose(pooled, states.float().mean(dim=0), atol=1e-5)
    assert not torch.equal(pooled, pooled.to(torch.bfloat16).float())


def test_the_head_is_never_run(pico: LoadedModel) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the head was run")

    pico.model.lm_head.register_forward_pre_hook(refuse)
    assert features(pico, encoded(pico)).shape == (4, 32)


def test_progress_ends_at_one_and_can_stop_the_work(pico: LoadedModel) -> None:
    with shares_of() as seen:
        features(pico, encoded(pico), batch_tokens=1)
        assert len(seen) == 4
    assert seen == sorted(seen)
    assert seen[-1] == 1.0

    def stop(_: str, share: float) -> None:
        if share:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), progress.watch(stop), progress.step("read"):
        features(pico, encoded(pico))


def test_visitors_see_what_passes_through_the_layers(pico: LoadedModel) -> None:
    seen: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]] = {}

    def visit(batch: Batch, layer: int, inputs: torch.Tensor, residual: torch.Tensor) -> None:
        for place, index in enumerate(batch.index):
            length = int(batch.real[place].sum())
            seen[layer, index] = (inputs[place, :length], residual[place, :length])

    visit_layers(pico, encoded(pico), [0, 1], visit, batch_tokens=64)
    assert not any(module._forward_hooks for module in pico.model.modules())
    for index, text in enumerate(encoded(pico)):
        output = pico.model.model(torch.tensor([text.ids]), output_hidden_states=True)
        assert torch.allclose(seen[0, index][1], output.hidden_states[1][0], atol=1e-5)
        mlp = pico.blocks[1].get_submodule("mlp")
        normed = pico.model.model.norm(seen[1, index][1])
        assert torch.allclose(normed, output.last_hidden_state[0], atol=1e-5)
        before_mlp = seen[1, index][1] - mlp.get_submodule("down_proj")(seen[1, index][0])
        x = pico.blocks[1].get_submodule("post_attention_layernorm")(before_mlp)
        gate, up = mlp.get_submodule("gate_proj")(x), mlp.get_submodule("up_proj")(x)
        expected = torch.nn.functional.silu(gate) * up
        assert torch.allclose(seen[1, index][0], expected, atol=1e-4)
