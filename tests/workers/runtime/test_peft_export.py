"""An exported adapter, loaded by the PEFT library, is the merged model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import peft
import pytest
import safetensors.numpy
import torch
from transformers import AutoModelForCausalLM

from models_store.errors import InvalidRequest
from models_store.weights.architectures import DOWN, GATE, OUTPUT, SHARED_GATE, UP, MatrixKey
from models_store.weights.delta import DeltaTerm
from models_store.weights.peft import CONFIG_NAME, WEIGHTS_NAME, to_peft
from tests.support.edits import random_edit, random_term
from workers.runtime.edits.apply import WeightEditor
from workers.runtime.edits.deltas import to_delta
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import Term

# PEFT asks transformers for an attribute whose name is about to change.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

IDS = torch.randint(4, 500, (3, 9), generator=torch.Generator().manual_seed(5))


def shapes_of(base: LoadedModel) -> dict[str, tuple[int, int]]:
    return {
        name.removesuffix(".weight"): (value.shape[0], value.shape[1])
        for name, value in base.model.named_parameters()
        if value.dim() == 2
    }


def stored(terms: list[Term], strength: float) -> list[tuple[DeltaTerm, float]]:
    return [(term, strength) for term in to_delta(terms, "sha256:ab", "bias").terms]


def write_adapter(
    base: LoadedModel, mixture: list[tuple[list[Term], float]], folder: Path
) -> dict[str, object]:
    weighted = [pair for terms, strength in mixture for pair in stored(terms, strength)]
    config, weights = to_peft(weighted, shapes_of(base), base.architecture, base_model="base")
    (folder / CONFIG_NAME).write_text(json.dumps(config))
    (folder / WEIGHTS_NAME).write_bytes(weights)
    return config


def loaded_logits(base: LoadedModel, adapter: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    with torch.no_grad():
        logits: torch.Tensor = peft.PeftModel.from_pretrained(model, adapter)(IDS).logits
    return logits.double()


@pytest.mark.parametrize("model_type", ["llama", "phi3", "gemma3_text", "qwen2_moe"])
def test_peft_gives_the_merged_model(
    load_pico: Callable[..., LoadedModel], tmp_path: Path, model_type: str
) -> None:
    base, exact = load_pico(model_type), load_pico(model_type, load_dtype="float64")
    modules = (GATE, UP, DOWN, OUTPUT, SHARED_GATE)
    one, two = (random_edit(base, seed=seed, modules=modules) for seed in (1, 2))
    mixture = [(one, 0.7), (two, -1.3)]
    write_adapter(base, mixture, tmp_path)
    with WeightEditor(exact).applied(mixture):
        truth = exact.model(IDS).logits
    with WeightEditor(base).applied(mixture):
        rounding = (base.model(IDS).logits.double() - truth).abs().max()
    got = loaded_logits(base, tmp_path)
    assert (got - truth).abs().max() <= 3 * rounding
    assert (truth - exact.model(IDS).logits).abs().max() > 0.1


def test_the_rank_is_that_of_the_fullest_module(pico: LoadedModel, tmp_path: Path) -> None:
    gate, down = MatrixKey(0, GATE), MatrixKey(1, DOWN)
    terms = [random_term(pico, gate, seed=s) for s in range(3)] + [random_term(pico, down, seed=9)]
    config = write_adapter(pico, [(terms, 1.0)], tmp_path)
    assert config["r"] == config["lora_alpha"] == 3
    assert config["target_modules"] == [
        "model.layers.0.mlp.gate_proj",
        "model.layers.1.mlp.down_proj",
    ]
    assert "layers_to_transform" not in config
    tensors = safetensors.numpy.load((tmp_path / WEIGHTS_NAME).read_bytes())
    a = tensors["base_model.model.model.layers.1.mlp.down_proj.lora_A.weight"]
    b = tensors["base_model.model.model.layers.1.mlp.down_proj.lora_B.weight"]
    assert a.shape == (3, 64)
    assert b.shape == (32, 3)
    assert np.count_nonzero(a[1:]) == np.count_nonzero(b[:, 1:]) == 0


def test_with_a_prefix_one_word_off_peft_does_nothing(pico: LoadedModel, tmp_path: Path) -> None:
    """Why every export is compared with the model it should be before it is given out."""
    write_adapter(pico, [(random_edit(pico), 1.0)], tmp_path)
    weights = tmp_path / WEIGHTS_NAME
    tensors = safetensors.numpy.load(weights.read_bytes())
    weights.write_bytes(
        safetensors.numpy.save(
            {
                name.replace("base_model.model.model.", "base_model.model."): value
                for name, value in tensors.items()
            }
        )
    )
    with pytest.warns(UserWarning, match="missing adapter keys"):
        got = loaded_logits(pico, tmp_path)
    assert torch.allclose(got, pico.model(IDS).logits.double(), atol=1e-4)


@pytest.mark.parametrize(
    ("model_type", "key", "reason"),
    [
        ("mixtral", MatrixKey(0, GATE, 1), "routed experts"),
        ("llama", MatrixKey(5, GATE), "no matrix"),
    ],
)
def test_what_an_adapter_cannot_hold_is_refused(
    load_pico: Callable[..., LoadedModel], model_type: str, key: MatrixKey, reason: str
) -> None:
    base = load_pico(model_type)
    term = DeltaTerm(*key, np.ones(32, np.float32), np.zeros(1, np.int32), np.ones(1, np.float32))
    with pytest.raises(InvalidRequest, match=reason):
        to_peft([(term, 1.0)], shapes_of(base), base.architecture)


@pytest.mark.parametrize(("length", "row"), [(31, 0), (32, 64)])
def test_terms_that_do_not_fit_are_refused(pico: LoadedModel, length: int, row: int) -> None:
    term = DeltaTerm(
        0,
        GATE,
        None,
        np.ones(length, np.float32),
        np.array([row], np.int32),
        np.ones(1, np.float32),
    )
    with pytest.raises(InvalidRequest, match="does not fit"):
        to_peft([(term, 1.0)], shapes_of(pico), pico.architecture)


def test_no_terms_are_no_adapter(pico: LoadedModel) -> None:
    with pytest.raises(InvalidRequest, match="at least one term"):
        to_peft([], shapes_of(pico), pico.architecture)
