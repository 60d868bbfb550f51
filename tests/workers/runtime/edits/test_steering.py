from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models_store.errors import InvalidRequest
from models_store.weights.architectures import DOWN, MatrixKey
from tests.support.pico import HIDDEN, LAYERS
from workers.runtime.decoding.decode import generate
from workers.runtime.edits.side_path import SidePath
from workers.runtime.edits.steering import steered
from workers.runtime.loading import LoadedModel, load_base

IDS = torch.tensor([[5, 9, 30, 41, 7], [8, 80, 81, 82, 83]])


@pytest.fixture(scope="module")
def base(pico_folder: Path) -> LoadedModel:
    return load_base(pico_folder, device="cpu", dtype="float32")


def _vector(seed: int = 0) -> Tensor:
    return torch.randn(HIDDEN, generator=torch.Generator().manual_seed(seed))


def _residuals(base: LoadedModel) -> list[Tensor]:
    """What each layer gets, and after them what the final norm gets."""
    got: list[Tensor] = []
    hooks = [
        module.register_forward_pre_hook(lambda module, inputs: got.append(inputs[0]))
        for module in (*base.blocks, base.model.model.norm)
    ]
    try:
        _last_hidden(base)
    finally:
        for hook in hooks:
            hook.remove()
    return got


def _last_hidden(base: LoadedModel) -> Tensor:
    with torch.no_grad():
        states: Tensor = base.decoder(input_ids=IDS).last_hidden_state
    return states


def test_the_residual_stream_gains_exactly_the_vector(base: LoadedModel) -> None:
    before = _residuals(base)
    with steered(base, {0: _vector()}):
        after = _residuals(base)
    assert torch.equal(after[0], before[0])
    assert torch.equal(after[1], before[1] + _vector())


def test_the_last_layer_is_steered_before_the_final_norm(base: LoadedModel) -> None:
    before = _residuals(base)
    with steered(base, {LAYERS - 1: _vector()}):
        after = _residuals(base)
    assert torch.equal(after[-2], before[-2])
    assert torch.equal(after[-1], before[-1] + _vector())


def test_several_layers_are_steered_at_once(base: LoadedModel) -> None:
    with steered(base, {0: _vector(0), 1: _vector(1)}):
        both = _last_hidden(base)
    with steered(base, {0: _vector(0)}), steered(base, {1: _vector(1)}):
        nested = _last_hidden(base)
    assert torch.equal(both, nested)


def test_the_model_is_itself_again_after_the_block(base: LoadedModel) -> None:
    before = _last_hidden(base)
    with pytest.raises(RuntimeError), steered(base, {0: _vector()}):
        raise RuntimeError
    assert torch.equal(_last_hidden(base), before)


def test_generation_is_steered_at_every_step(base: LoadedModel) -> None:
    """Decoding with a cache goes as reading the whole text anew for every token does."""
    prompt = [5, 9, 30]
    vector = 3 * _vector(2)
    with steered(base, {0: vector}):
        (made,) = generate(base, [prompt], max_new_tokens=6, side=SidePath(base), seeds=[0])
        ids = list(prompt)
        for _ in made.ids:
            with torch.no_grad():
                ids.append(int(base.model(torch.tensor([ids])).logits[0, -1].argmax()))
    assert list(made.ids) == ids[len(prompt) :]
    (plain,) = generate(base, [prompt], max_new_tokens=6, side=SidePath(base), seeds=[0])
    assert plain.ids != made.ids


@pytest.mark.parametrize("model_type", ["gemma3_text", "mixtral", "phi3"])
def test_every_family_can_be_steered(make_pico: Callable[..., Path], model_type: str) -> None:
    base = load_base(make_pico(model_type), device="cpu", dtype="float32")
    before = _residuals(base)
    with steered(base, {0: _vector()}):
        after = _residuals(base)
    assert torch.equal(after[1], before[1] + _vector())


def test_a_model_in_half_precision_rounds_the_sum_once(make_pico: Callable[..., Path]) -> None:
    base = load_base(make_pico("llama"), device="cpu", dtype="bfloat16")
    before = _residuals(base)
    with steered(base, {0: _vector()}):
        after = _residuals(base)
    assert after[1].dtype == torch.bfloat16
    assert torch.equal(after[1], (before[1].float() + _vector()).bfloat16())


@pytest.mark.parametrize(
    ("layer", "size"), [(LAYERS, HIDDEN), (-1, HIDDEN), (0, HIDDEN + 1)], ids=str
)
def test_a_vector_that_does_not_fit_is_refused(base: LoadedModel, layer: int, size: int) -> None:
    with (
        pytest.raises(InvalidRequest, match="steering vector"),
        steered(base, {layer: torch.ones(size)}),
    ):
        pass


def test_a_steered_constant_is_what_a_bias_edit_writes(base: LoadedModel) -> None:
    """Adding after a layer is adding to what its `down_proj` gives."""
    module, _ = base.linear(MatrixKey(0, DOWN))
    hook = module.register_forward_hook(lambda module, inputs, output: output + _vector())
    try:
        by_bias = _last_hidden(base)
    finally:
        hook.remove()
    with steered(base, {0: _vector()}):
        torch.testing.assert_close(_last_hidden(base), by_bias)
