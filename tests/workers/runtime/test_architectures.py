"""Every family of the table: edits reach each gate and nothing but the gates."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from models_store.errors import InvalidRequest
from models_store.weights.architectures import (
    ARCHITECTURES,
    DOWN,
    GATE,
    OUTPUT,
    SHARED_GATE,
    SHARED_UP,
    UP,
    MatrixKey,
    architecture_for,
)
from tests.support.pico import EXPERTS, LAYERS
from workers.runtime.edits.apply import WeightEditor
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import Term, make_term

# Gate rows by parameter, written out by hand: name of the parameter, gate's rows, all rows.
PLAIN = {f"model.layers.{layer}.mlp.gate_proj.weight": (64, 64) for layer in range(LAYERS)}
FUSED = {f"model.layers.{layer}.mlp.gate_up_proj.weight": (64, 128) for layer in range(LAYERS)}
EXPECTED: dict[str, dict[str, tuple[int, int]]] = {
    **dict.fromkeys(
        (
            "llama",
            "mistral",
            "qwen2",
            "qwen3",
            "gemma",
            "gemma2",
            "gemma3_text",
            "olmo",
            "olmo2",
            "olmo3",
            "smollm3",
        ),
        PLAIN,
    ),
    "phi3": FUSED,
    "mixtral": {
        f"model.layers.{layer}.mlp.experts.gate_up_proj": (64, 128) for layer in range(LAYERS)
    },
    "olmoe": {
        f"model.layers.{layer}.mlp.experts.gate_up_proj": (64, 128) for layer in range(LAYERS)
    },
    "qwen3_moe": {
        f"model.layers.{layer}.mlp.experts.gate_up_proj": (16, 32) for layer in range(LAYERS)
    },
    "qwen2_moe": {
        **{f"model.layers.{layer}.mlp.experts.gate_up_proj": (16, 32) for layer in range(LAYERS)},
        **{
            f"model.layers.{layer}.mlp.shared_expert.gate_proj.weight": (24, 24)
            for layer in range(LAYERS)
        },
    },
}


def all_gates(base: LoadedModel) -> list[Term]:
    """A term on every row of every gate."""
    return [
        make_term(
            key,
            # Not a constant: OLMo's norm takes the mean of its inputs away.
            torch.linspace(-1, 2, base.matrix(key).shape[1]),
            torch.arange(len(base.matrix(key))),
            torch.ones(len(base.matrix(key))),
        )
        for key in base.architecture.gates()
    ]


def parameters(base: LoadedModel) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in base.model.named_parameters()}


def test_every_family_is_tested() -> None:
    assert EXPECTED.keys() == ARCHITECTURES.keys()


@pytest.mark.parametrize("model_type", sorted(EXPECTED))
def test_an_edit_of_all_gates_changes_exactly_the_gate_rows_and_can_be_undone(
    load_pico: Callable[..., LoadedModel], model_type: str
) -> None:
    base = load_pico(model_type)
    before = parameters(base)
    ids = torch.arange(4, 20)[None]
    logits = base.model(ids).logits
    editor = WeightEditor(base)
    editor.apply_([(all_gates(base), 0.1)])
    after = parameters(base)
    touched = {name for name in before if not torch.equal(before[name], after[name])}
    assert touched == EXPECTED[model_type].keys()
    for name, (gate_rows, rows) in EXPECTED[model_type].items():
        differs = (before[name] != after[name]).flatten(start_dim=-1).any(dim=-1)
        assert differs.shape[-1] == rows
        assert bool(differs[..., :gate_rows].all())
        assert not bool(differs[..., gate_rows:].any())
    assert not torch.allclose(base.model(ids).logits, logits, atol=1e-3)
    editor.restore_()
    assert all(torch.equal(before[name], value) for name, value in parameters(base).items())
    assert torch.equal(base.model(ids).logits, logits)


@pytest.mark.parametrize("model_type", sorted(EXPECTED))
def test_the_gate_is_what_the_activation_function_reads(
    load_pico: Callable[..., LoadedModel], model_type: str
) -> None:
    """Wherever a family keeps its gate: with the gates at zero, act(0) = 0 silences the MLP."""
    base = load_pico(model_type)
    for key in base.architecture.gates():
        base.matrix(key).zero_()
    ids = torch.arange(4, 20)[None]
    silent = base.model(ids).logits
    for key in base.architecture.matrices(UP, SHARED_UP):
        base.matrix(key).mul_(-3.0)
    assert torch.equal(base.model(ids).logits, silent)


@pytest.mark.parametrize("model_type", ["qwen2_moe", "qwen3_moe"])
def test_layers_without_experts_are_dense_ones(
    load_pico: Callable[..., LoadedModel], model_type: str
) -> None:
    base = load_pico(model_type, mlp_only_layers=[0])
    keys = list(base.architecture.gates())
    assert keys[0] == MatrixKey(0, GATE)
    assert keys[1 : 1 + EXPERTS] == [MatrixKey(1, GATE, expert) for expert in range(EXPERTS)]
    assert len(base.matrix(keys[0])) == 64
    WeightEditor(base).apply_([(all_gates(base), 0.1)])


def test_sparse_steps_are_honoured() -> None:
    config = {
        "model_type": "qwen3_moe",
        "num_hidden_layers": 4,
        "num_experts": 2,
        "decoder_sparse_step": 2,
    }
    assert architecture_for(config).experts == (0, 2, 0, 2)


def test_every_matrix_of_the_table_has_a_shape_that_fits(
    load_pico: Callable[..., LoadedModel],
) -> None:
    for model_type in EXPECTED:
        base = load_pico(model_type)
        for key in base.architecture.matrices(GATE, UP):
            assert base.matrix(key).shape[1] == base.hidden_size
        for key in base.architecture.matrices(DOWN, OUTPUT):
            assert base.matrix(key).shape[0] == base.hidden_size


def test_keys_come_by_layer_module_and_expert(load_pico: Callable[..., LoadedModel]) -> None:
    keys = list(load_pico("qwen2_moe").architecture.gates())
    assert keys == sorted(keys, key=lambda key: key.order)
    assert keys[EXPERTS] == MatrixKey(0, SHARED_GATE)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({}, "None are not supported"),
        ({"model_type": "gpt2", "num_hidden_layers": 2}, "'gpt2' are not supported.*llama"),
        ({"model_type": "llama"}, "num_hidden_layers = None"),
        ({"model_type": "mixtral", "num_hidden_layers": 2}, "num_local_experts = None"),
        ({"model_type": "llama", "num_hidden_layers": True}, "num_hidden_layers = True"),
    ],
)
def test_a_model_outside_the_table_is_refused_by_name(
    config: dict[str, object], reason: str
) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        architecture_for(config)
