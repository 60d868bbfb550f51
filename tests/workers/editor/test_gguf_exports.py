"""Exports for llama.cpp: what is in the file, and that it is proved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from torch import Tensor

from models_store.errors import EditFailed, InvalidRequest
from models_store.schemas.records import Variant
from models_store.weights.architectures import (
    ARCHITECTURES,
    DOWN,
    GATE,
    KEY,
    OUTPUT,
    QUERY,
    SHARED_GATE,
    SHARED_UP,
    UP,
    VALUE,
    MatrixKey,
)
from models_store.weights.gguf import ARCHITECTURES as NAMES
from models_store.weights.gguf import architecture_name, to_gguf
from models_store.weights.lora import Factors
from tests.support.edits import random_edit, random_term
from tests.workers.conftest import Bench
from workers.editor.formats import gguf as format
from workers.editor.formats.protocol import content
from workers.editor.jobs.proof import Proof, prove
from workers.runtime.edits.apply import WeightEditor
from workers.runtime.loading import LoadedModel, load_base
from workers.surgery.terms import Mixture

Body = Callable[..., dict[str, Any]]
Load = Callable[..., LoadedModel]

# Written out by hand: what llama.cpp calls the weights of layer 1.
PLAIN = {
    GATE: "blk.1.ffn_gate.weight",
    UP: "blk.1.ffn_up.weight",
    DOWN: "blk.1.ffn_down.weight",
    OUTPUT: "blk.1.attn_output.weight",
}
FUSED = {**PLAIN, GATE: "blk.1.ffn_up.weight"}
SHARED = {
    OUTPUT: PLAIN[OUTPUT],
    SHARED_GATE: "blk.1.ffn_gate_shexp.weight",
    SHARED_UP: "blk.1.ffn_up_shexp.weight",
}
EXPECTED: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "llama": ("llama", PLAIN),
    "mistral": ("llama", PLAIN),
    "qwen2": ("qwen2", PLAIN),
    "qwen3": ("qwen3", PLAIN),
    "gemma": ("gemma", PLAIN),
    "gemma2": ("gemma2", PLAIN),
    "gemma3_text": ("gemma3", PLAIN),
    "olmo": ("olmo", PLAIN),
    "olmo2": ("olmo2", PLAIN),
    "olmo3": ("olmo2", PLAIN),
    "smollm3": ("smollm3", PLAIN),
    "phi3": ("phi3", FUSED),
    "mixtral": ("llama", {OUTPUT: PLAIN[OUTPUT]}),
    "olmoe": ("olmoe", {OUTPUT: PLAIN[OUTPUT]}),
    "qwen2_moe": ("qwen2moe", SHARED),
    "qwen3_moe": ("qwen3moe", {OUTPUT: PLAIN[OUTPUT]}),
}


_UNUSED = Path("nothing is written here")


def variant(base: LoadedModel) -> Variant:
    return Variant(name="pico:kinder@0.5", base_model="pico", base_fingerprint=base.fingerprint)


def adapter_of(base: LoadedModel, mixture: Mixture) -> bytes:
    (data,) = format.files(base, mixture, variant(base), _UNUSED).values()
    return content(data)


def read(data: bytes, folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Metadata and tensors of a GGUF file."""
    path = folder / "read.gguf"
    path.write_bytes(data)
    reader = gguf.GGUFReader(path)
    assert {tensor.tensor_type for tensor in reader.tensors} == {gguf.GGMLQuantizationType.F32}
    fields = {name: field.contents() for name, field in reader.fields.items()}
    return fields, {tensor.name: np.array(tensor.data) for tensor in reader.tensors}


def proved(base: LoadedModel, mixture: Mixture, data: bytes) -> Proof:
    def reload(dtype: str) -> LoadedModel:
        return load_base(base.folder, device="cpu", dtype=dtype)

    return prove(base, mixture, format.loader({format.NAME: data}), reload)


# Whose rotation pairs neighbours in llama.cpp, and halves in transformers.
_NEIGHBOURS = ("llama", "mistral", "mixtral", "smollm3", "olmo")


def as_llama_cpp_has_it(model_type: str, name: str, weight: Tensor, config: Any) -> Tensor:
    """A weight by llama.cpp's name, as its `convert_hf_to_gguf.py` stores it."""
    if model_type.startswith("gemma") and name.endswith("norm.weight"):
        return weight + 1
    heads = {
        "attn_q.weight": config.num_attention_heads,
        "attn_k.weight": config.num_key_value_heads,
    }.get(name.split(".", 2)[-1])
    if heads is None or model_type not in _NEIGHBOURS:
        return weight
    halves = weight.reshape(heads, 2, -1, weight.shape[-1])
    return halves.transpose(1, 2).reshape(weight.shape)


def changed(data: bytes, old: str, new: str) -> bytes:
    """The file with one word replaced by another of the same length."""
    assert len(old) == len(new)
    assert old.encode() in data
    return data.replace(old.encode(), new.encode())


def test_every_family_has_an_architecture_of_llama_cpp() -> None:
    assert set(EXPECTED) == set(NAMES) == set(ARCHITECTURES)


@pytest.mark.parametrize("model_type", EXPECTED)
def test_names_shapes_and_metadata_are_those_of_llama_cpp(
    load_pico: Load, tmp_path: Path, model_type: str
) -> None:
    base = load_pico(model_type)
    architecture, names = EXPECTED[model_type]
    for module, name in names.items():
        term = random_term(base, MatrixKey(1, module), seed=3)
        fields, tensors = read(adapter_of(base, [([term], -0.5)]), tmp_path)
        assert fields["general.architecture"] == architecture
        assert tensors.keys() == {f"{name}.lora_a", f"{name}.lora_b"}
        a, b = tensors[f"{name}.lora_a"], tensors[f"{name}.lora_b"]
        fused = base.model.get_parameter(base.architecture.tensor(term.key))
        assert (b.shape[0], a.shape[1]) == tuple(fused.shape)
        assert a.shape[0] == b.shape[1] == 1
        assert np.count_nonzero(b) == len(term.rows)
    assert fields["general.type"] == "adapter"
    assert fields["adapter.type"] == "lora"
    assert fields["adapter.lora.alpha"] == 1.0
    assert fields["general.name"] == "pico:kinder@0.5"
    assert fields["general.base_model.0.name"] == "pico"


def test_both_halves_of_a_fused_matrix_are_one_tensor(load_pico: Load, tmp_path: Path) -> None:
    base = load_pico("phi3")
    gate, up = (
        random_term(base, MatrixKey(0, module), seed=i) for i, module in enumerate((GATE, UP))
    )
    _, tensors = read(adapter_of(base, [([gate, up], 1.0)]), tmp_path)
    b = tensors["blk.0.ffn_up.weight.lora_b"]
    assert b.shape == (128, 2)
    rows = {frozenset(np.flatnonzero(column).tolist()) for column in b.T}
    assert rows == {frozenset(gate.rows.tolist()), frozenset((up.rows + 64).tolist())}


def test_all_ranks_are_alpha_so_that_llama_cpp_scales_by_one(
    pico: LoadedModel, tmp_path: Path
) -> None:
    gate, down = MatrixKey(0, GATE), MatrixKey(1, DOWN)
    first = [random_term(pico, gate, seed=seed) for seed in range(2)]
    second = [random_term(pico, gate, seed=7), random_term(pico, down, seed=8)]
    fields, tensors = read(adapter_of(pico, [(first, 0.5), (second, -1.5)]), tmp_path)
    assert fields["adapter.lora.alpha"] == 3.0
    for name, array in tensors.items():
        assert array.shape[0 if name.endswith("a") else 1] == 3
    meant = torch.zeros(64, 32)
    for term, strength in [(first[0], 0.5), (first[1], 0.5), (second[0], -1.5)]:
        meant[term.rows] += strength * term.coefficients[:, None] * term.direction
    change = tensors["blk.0.ffn_gate.weight.lora_b"] @ tensors["blk.0.ffn_gate.weight.lora_a"]
    assert np.allclose(change, meant.numpy(), atol=1e-6)


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "gemma3_text", "phi3", "qwen2_moe"])
def test_a_mixture_is_proved_by_reading_it_back(load_pico: Load, model_type: str) -> None:
    base = load_pico(model_type)
    one, two = (random_edit(base, seed=seed) for seed in (1, 2))
    mixture = [(one, 0.5), (two, -1.3)]
    proof = proved(base, mixture, adapter_of(base, mixture))
    assert (proof.loader, proof.passed) == ("gguf", True)
    assert proof.max_logit_diff <= proof.tolerance


@pytest.mark.parametrize(
    "model_type", ["llama", "mistral", "mixtral", "olmo", "smollm3", "qwen2", "qwen3", "gemma"]
)
def test_queries_and_keys_are_in_the_order_of_llama_cpp(
    load_pico: Load, tmp_path: Path, model_type: str
) -> None:
    base = load_pico(model_type, num_attention_heads=4, num_key_value_heads=2)
    edit = random_edit(base, modules=(QUERY, KEY, VALUE))
    data = adapter_of(base, [(edit, 0.5)])
    _, tensors = read(data, tmp_path)
    with WeightEditor(base).applied([(edit, 0.5)]):
        weights = {name: one.clone() for name, one in base.model.named_parameters()}
    for module, called in ((QUERY, "attn_q"), (KEY, "attn_k"), (VALUE, "attn_v")):
        name = f"model.layers.1.{module}.weight"
        stored = [
            as_llama_cpp_has_it(model_type, f"blk.1.{called}.weight", weight, base.model.config)
            for weight in (base.model.get_parameter(name), weights[name])
        ]
        b, a = (tensors[f"blk.1.{called}.weight.lora_{part}"] for part in "ba")
        assert np.allclose(b @ a, (stored[1] - stored[0]).numpy(), atol=1e-5)
    assert proved(base, [(edit, 0.5)], data).passed


def test_an_export_is_one_file(bench: Bench, body: Body) -> None:
    one, two = (bench.make_up(**body(seed=seed)) for seed in (0, 5))
    outcome = bench.do(bench.submit_export(f"pico:{one}@0.5+{two}@-1", "gguf"))
    assert bench.file(outcome, "adapter.gguf").startswith(b"GGUF")
    proof = outcome.data["proof"]
    assert isinstance(proof, dict)
    assert (proof["loader"], proof["passed"]) == ("gguf", True)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("blk.0.ffn_gate", "blk.0.ffn_gato", "no tensor of the base"),
        ("blk.0.ffn_gate", "blk.7.ffn_gate", "no tensor of the base"),
        ("blk.0.ffn_gate", "blk.0.ffn_down", "blk.0.ffn_down.weight is"),
        ("blk.0.ffn_gate", "blk.1.ffn_gate", "is not the variant"),
        ("weight.lora_b", "weight.lora_c", "has a lora_a and a lora_b"),
        ("adapter", "adaptor", "general.type"),
        ("\x04\0\0\0\0\0\0\0lora", "\x04\0\0\0\0\0\0\0LORA", "adapter.type"),
        ("llama", "lemma", "general.architecture"),
    ],
)
def test_an_adapter_with_one_word_wrong_is_caught(
    pico: LoadedModel, old: str, new: str, reason: str
) -> None:
    mixture = [([random_term(pico, MatrixKey(0, GATE), seed=1)], 1.0)]
    right = adapter_of(pico, mixture)
    assert proved(pico, mixture, right).passed
    with pytest.raises(EditFailed, match=reason) as got:
        proved(pico, mixture, changed(right, old, new))
    assert got.value.code == "export_mismatch"


def test_an_adapter_that_does_nothing_is_caught(pico: LoadedModel) -> None:
    term = random_term(pico, MatrixKey(0, GATE), seed=1)
    nothing = replace(term, coefficients=torch.zeros_like(term.coefficients))
    with pytest.raises(EditFailed, match="is not the variant") as got:
        proved(pico, [([term], 1.0)], adapter_of(pico, [([nothing], 1.0)]))
    assert got.value.code == "export_mismatch"


def test_the_model_is_as_before_when_the_adapter_is_gone(pico: LoadedModel) -> None:
    ids = torch.arange(4, 40)[None]
    before = pico.model(ids).logits
    loader = format.loader({format.NAME: adapter_of(pico, [(random_edit(pico), 1.0)])})
    with loader.loaded(pico):
        assert not torch.equal(pico.model(ids).logits, before)
    assert torch.equal(pico.model(ids).logits, before)


def test_edits_of_routed_experts_are_refused(
    empty_bench: Bench, body: Body, make_pico: Callable[..., Any]
) -> None:
    empty_bench.register(make_pico("mixtral"))
    id = empty_bench.make_up(**body())
    with pytest.raises(InvalidRequest, match="routed experts"):
        empty_bench.do(empty_bench.submit_export(f"pico:{id}", "gguf"))


def test_a_family_that_llama_cpp_does_not_know_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no architecture of llama"):
        architecture_name("plamo_next")


def test_a_module_that_llama_cpp_does_not_know_is_refused(pico: LoadedModel) -> None:
    pair = Factors(np.ones((1, 32), np.float32), np.ones((32, 1), np.float32))
    with pytest.raises(InvalidRequest, match="no tensor for model"):
        to_gguf({"model.layers.0.mlp.extra": pair}, pico.architecture, name="", base_model="")
