"""Edits merged into files are, bit for bit, what `WeightEditor` writes into a loaded model."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from models_store.errors import InvalidRequest
from models_store.weights.architectures import DOWN, GATE, OUTPUT, UP, MatrixKey
from tests.support.edits import random_edit, random_term
from workers.runtime import merging
from workers.runtime.base_models.weights import stored_tensors
from workers.runtime.edits.apply import WeightEditor
from workers.runtime.loading import LoadedModel, load_base
from workers.runtime.merging import coarsest_dtype, copy, merge
from workers.surgery.terms import Mixture, Term

FAMILIES = ("llama", "phi3", "gemma3_text", "mixtral", "olmoe", "qwen2_moe", "qwen3_moe")


def some_mixture(base: LoadedModel) -> Mixture:
    """Two edits at 0.5 and -1.25; of experts too, where there are any."""
    experts = [key for key in base.architecture.matrices(GATE, UP, DOWN) if key.expert == 1]
    routed = [random_term(base, key, seed=i) for i, key in enumerate(experts)]
    return [([*random_edit(base, seed=1), *routed], 0.5), (random_edit(base, seed=2), -1.25)]


def in_half(folder: Path) -> LoadedModel:
    return load_base(folder, device="cpu", dtype="bfloat16")


def sharded(folder: Path, target: Path) -> Path:
    """The same model in several files."""
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(target, max_shard_size="40KB")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (target / name).write_bytes((folder / name).read_bytes())
    assert len(list(target.glob("*.safetensors"))) > 3
    return target


def merged(base: LoadedModel, mixture: Mixture, target: Path) -> Path:
    merge(base.folder, base.architecture, mixture, target)
    return target


def require_equal(base: LoadedModel, mixture: Mixture, folder: Path) -> None:
    """The model in `folder` is the base with the mixture in its weights."""
    got = AutoModelForCausalLM.from_pretrained(folder, dtype=base.dtype).state_dict()
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    with WeightEditor(base).applied(mixture):
        for name, tensor in base.model.state_dict().items():
            assert torch.equal(got[name], tensor), name
    assert any(not torch.equal(got[name], before[name]) for name in before)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_merged_files_load_as_the_edited_weights(
    load_pico: Callable[..., LoadedModel], tmp_path: Path, model_type: str
) -> None:
    base = load_pico(model_type)
    mixture = some_mixture(base)
    require_equal(base, mixture, merged(base, mixture, tmp_path / "merged"))


@pytest.mark.parametrize("model_type", ["llama", "mixtral"])
def test_16_bits_are_rounded_once(
    make_pico: Callable[..., Path], tmp_path: Path, model_type: str
) -> None:
    base = in_half(make_pico(model_type, dtype=torch.bfloat16, tie_word_embeddings=True))
    mixture = some_mixture(base)
    folder = merged(base, mixture, tmp_path / "merged")
    require_equal(base, mixture, folder)
    assert coarsest_dtype(folder) == "bfloat16"


def test_a_matrix_in_many_blocks_is_merged_alike(
    pico: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "_BLOCK_VALUES", 7 * pico.hidden_size)
    monkeypatch.setattr(merging, "_BLOCK_BYTES", 100)
    mixture = [([random_term(pico, MatrixKey(1, m), seed=3, rows=64) for m in (GATE, UP)], 2.0)]
    mixture += some_mixture(pico)
    require_equal(pico, mixture, merged(pico, mixture, tmp_path / "merged"))


def test_shards_stay_as_they_are_but_for_what_is_edited(pico_folder: Path, tmp_path: Path) -> None:
    base = load_base(sharded(pico_folder, tmp_path / "base"), device="cpu", dtype="float32")
    term = random_term(base, MatrixKey(1, GATE), seed=0)
    folder = merged(base, [([term], -0.5)], tmp_path / "merged")
    require_equal(base, [([term], -0.5)], folder)
    before, after = (stored_tensors(one) for one in (base.folder, folder))
    changed = {name for name in before if bytes_of(before[name]) != bytes_of(after[name])}
    assert changed == {"model.layers.1.mlp.gate_proj.weight"}
    for path in base.folder.glob("*.safetensors"):
        assert header_of(folder / path.name) == header_of(path)
    for name in ("model.safetensors.index.json", "config.json", "tokenizer.json"):
        assert (folder / name).read_bytes() == (base.folder / name).read_bytes()


def bytes_of(tensor: Any) -> bytes:
    data: bytes = tensor.file.read_bytes()[tensor.start : tensor.stop]
    return data


def header_of(path: Path) -> bytes:
    data = path.read_bytes()
    return data[: 8 + int.from_bytes(data[:8], "little")]


def test_only_what_belongs_to_the_model_comes_along(
    make_pico: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "base"
    folder.mkdir()
    for path in make_pico().iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    for name in ("LICENSE", "NOTICE.txt", "merges.txt", "pytorch_model.bin", "optimizer.pt"):
        (folder / name).write_text(name)
    for name in ("pytorch_model.bin.index.json", "scalpel.json", "adapter_config.json"):
        (folder / name).write_text("{}")
    (folder / "other.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    base = load_base(make_pico(), device="cpu", dtype="float32")
    merge(folder, base.architecture, some_mixture(base), tmp_path / "merged")
    assert {path.name for path in (tmp_path / "merged").iterdir()} == {
        "LICENSE",
        "NOTICE.txt",
        "merges.txt",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_where_the_kernel_cannot_copy_python_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.copy_file_range, []

    def breaks_off(source: int, target: int, count: int, *offsets: int) -> int:
        calls.append(count)
        if len(calls) == 1:
            return real(source, target, 5, *offsets)
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(merging.os, "copy_file_range", breaks_off)
    (tmp_path / "one").write_bytes(os.urandom(3000))
    one, two = tmp_path / "one", tmp_path / "two"
    with one.open("rb", buffering=0) as reader, two.open("wb", buffering=0) as writer:
        copy(reader.fileno(), writer.fileno(), 0, 2000)
        copy(reader.fileno(), writer.fileno(), 2000, 3000)
    assert (tmp_path / "two").read_bytes() == (tmp_path / "one").read_bytes()


@pytest.mark.parametrize(("length", "row"), [(31, 0), (32, 64)])
def test_terms_that_do_not_fit_are_refused(
    pico: LoadedModel, tmp_path: Path, length: int, row: int
) -> None:
    rows, one = torch.tensor([row]), torch.ones(1)
    term = Term(0, GATE, None, torch.ones(length), rows, one)
    with pytest.raises(InvalidRequest, match="does not fit"):
        merge(pico.folder, pico.architecture, [([term], 1.0)], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_experts_in_an_unknown_layout_are_refused(
    make_pico: Callable[..., Path], load_pico: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    dense, sparse = make_pico("llama"), load_pico("mixtral")
    term = random_term(sparse, MatrixKey(0, GATE, 1), seed=0)
    with pytest.raises(InvalidRequest, match="as native or peft"):
        merge(dense, sparse.architecture, [([term], 1.0)], tmp_path / "merged")


def test_an_index_without_shards_of_its_own_is_left_behind(
    pico_folder: Path, tmp_path: Path
) -> None:
    folder = sharded(pico_folder, tmp_path / "base")
    (folder / "model.safetensors").write_bytes((pico_folder / "model.safetensors").read_bytes())
    base = load_base(folder, device="cpu", dtype="float32")
    term = random_term(base, MatrixKey(0, OUTPUT), seed=0)
    target = merged(base, [([term], 1.0)], tmp_path / "merged")
    assert [path.name for path in target.glob("*.safetensors*")] == ["model.safetensors"]
    assert json.loads((target / "config.json").read_text())["model_type"] == "llama"
