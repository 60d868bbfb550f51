"""Whole models for llama.cpp: what is in the file, and that it is proved."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from models_store.errors import EditFailed, InvalidRequest
from models_store.schemas.records import Variant
from models_store.weights.architectures import ARCHITECTURES, DOWN, GATE, KEY, QUERY, MatrixKey
from tests.external.llamacpp.families import ONLY_TIED, SECTION
from tests.support.edits import random_edit, random_term
from tests.support.pico import save_pico
from tests.workers.conftest import Bench
from tests.workers.editor.test_gguf_exports import as_llama_cpp_has_it
from workers.editor.formats.merged_gguf import DTYPES
from workers.editor.jobs.proof import Proof, prove
from workers.runtime.edits.apply import WeightEditor
from workers.runtime.loading import LoadedModel, load_base
from workers.surgery.terms import Mixture

Body = Callable[..., dict[str, Any]]
Load = Callable[..., LoadedModel]


def exported(base: LoadedModel, mixture: Mixture, folder: Path, dtype: str) -> Path:
    variant = Variant(name="pico:kinder", base_model="pico", base_fingerprint=base.fingerprint)
    (path,) = DTYPES[dtype].files(base, mixture, variant, folder).values()
    assert isinstance(path, Path)
    return path


def proved(base: LoadedModel, mixture: Mixture, path: Path, dtype: str) -> Proof:
    def reload(name: str) -> LoadedModel:
        return load_base(base.folder, device="cpu", dtype=name)

    return prove(base, mixture, DTYPES[dtype].loader({path.name: path}), reload)


def read(path: Path) -> tuple[dict[str, Any], dict[str, gguf.ReaderTensor]]:
    reader = gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    return fields, {tensor.name: tensor for tensor in reader.tensors}


def edit_of(base: LoadedModel) -> Mixture:
    attention = random_edit(base, seed=4, modules=(QUERY, KEY))
    return [(random_edit(base, seed=1), 0.5), (attention, -0.7)]


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "gemma3_text", "olmo", "smollm3", "phi3"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_model_is_proved_by_reading_it_back(
    load_pico: Load, tmp_path: Path, model_type: str, dtype: str
) -> None:
    base = load_pico(model_type)
    mixture = edit_of(base)
    proof = proved(base, mixture, exported(base, mixture, tmp_path, dtype), dtype)
    assert (proof.loader, proof.passed) == ("gguf", True)
    assert proof.dtype == {"f32": "float32", "f16": "float16", "q8_0": "q8_0"}[dtype]
    judged = proof.max_logit_diff if dtype == "f32" else proof.mean_kl
    assert judged <= proof.tolerance
    assert ("fp64" if dtype == "f32" else proof.dtype) in proof.rule


@pytest.mark.parametrize("model_type", ["llama", "qwen3", "gemma2", "olmo2"])
def test_every_weight_is_the_edited_one_in_the_order_of_llama_cpp(
    load_pico: Load, tmp_path: Path, model_type: str
) -> None:
    tied = {"tie_word_embeddings": model_type == "gemma2"}
    base = load_pico(model_type, num_attention_heads=4, num_key_value_heads=2, **tied)
    mixture = edit_of(base)
    _, tensors = read(exported(base, mixture, tmp_path, "f32"))
    arch = gguf.MODEL_ARCH[model_type.upper()]
    names = gguf.get_tensor_name_map(arch, base.layers)
    with WeightEditor(base).applied(mixture):
        weights = {name: weight.clone() for name, weight in base.model.named_parameters()}
    assert len(tensors) == len(weights)
    for name, weight in weights.items():
        called = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert called is not None
        expected = as_llama_cpp_has_it(model_type, called, weight, base.model.config)
        assert np.array_equal(tensors[called].data, expected.numpy()), name


def test_matrices_have_the_dtype_and_vectors_are_in_fp32(pico: LoadedModel, tmp_path: Path) -> None:
    fields, tensors = read(exported(pico, edit_of(pico), tmp_path, "q8_0"))
    types = {name: tensor.tensor_type.name for name, tensor in tensors.items()}
    assert types["token_embd.weight"] == types["blk.0.ffn_gate.weight"] == "Q8_0"
    assert types["blk.0.attn_norm.weight"] == "F32"
    assert fields["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q8_0
    assert fields["general.architecture"] == "llama"
    assert fields["general.name"] == "pico:kinder"
    assert fields["llama.attention.head_count_kv"] == 2


def test_rows_that_no_block_of_q8_0_fits_are_in_f16(load_pico: Load, tmp_path: Path) -> None:
    base = load_pico("llama", intermediate_size=80)
    path = exported(base, edit_of(base), tmp_path, "q8_0")
    assert read(path)[1]["blk.0.ffn_down.weight"].tensor_type.name == "F16"
    assert proved(base, edit_of(base), path, "q8_0").passed


def test_the_file_has_tokens_and_template(pico: LoadedModel, tmp_path: Path) -> None:
    fields, _ = read(exported(pico, edit_of(pico), tmp_path, "f16"))
    tokenizer = pico.tokenizer
    assert fields["tokenizer.ggml.model"] == "gpt2"
    assert fields["tokenizer.ggml.tokens"] == tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    assert fields["tokenizer.ggml.token_type"][:5] == [gguf.TokenType.CONTROL] * 4 + [
        gguf.TokenType.NORMAL
    ]
    assert fields["tokenizer.ggml.eos_token_id"] == tokenizer.eos_token_id
    assert fields["tokenizer.ggml.add_bos_token"] is False
    assert fields["tokenizer.chat_template"] == tokenizer.chat_template


def test_an_export_is_one_file_of_the_dtype(bench: Bench, body: Body) -> None:
    id, _ = bench.edit(**body())
    outcome = bench.do(bench.submit_export(f"pico:{id}@2", "merged-gguf", dtype="q8_0"))
    assert bench.file(outcome, "model-q8_0.gguf").startswith(b"GGUF")
    assert b"llama-server -m model-q8_0.gguf" in bench.file(outcome, "README.md")
    proof = outcome.data["proof"]
    assert isinstance(proof, dict)
    assert (proof["dtype"], proof["passed"]) == ("q8_0", True)
    assert "rule" in proof


@pytest.mark.parametrize("damage", ["other_edit", "no_edit", "name", "architecture", "cut"])
def test_a_file_that_is_not_the_variant_is_caught(
    pico: LoadedModel, tmp_path: Path, damage: str
) -> None:
    mixture = edit_of(pico)
    written: dict[str, Mixture] = {"other_edit": [(random_edit(pico, seed=9), 0.5)], "no_edit": []}
    path = exported(pico, written.get(damage, mixture), tmp_path, "q8_0")
    data = path.read_bytes()
    changes: Mapping[str, bytes] = {
        "name": data.replace(b"blk.1.ffn_gate.weight", b"blk.1.ffn_gato.weight"),
        "architecture": data.replace(
            b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0llama",
            b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0gemma",
        ),
        "cut": data[: len(data) // 2],
    }
    if damage in changes:
        assert changes[damage] != data
        path.write_bytes(changes[damage])
    with pytest.raises(EditFailed) as got:
        proved(pico, mixture, path, "q8_0")
    assert got.value.code == "export_mismatch"


def test_an_edit_that_rounding_hides_is_caught(pico: LoadedModel, tmp_path: Path) -> None:
    mixture: Mixture = [([random_term(pico, MatrixKey(0, GATE), seed=1)], 1e-3)]
    path = exported(pico, mixture, tmp_path, "q8_0")
    with pytest.raises(EditFailed, match="rounding alone") as got:
        proved(pico, mixture, path, "q8_0")
    assert got.value.code == "export_mismatch"
    assert proved(pico, mixture, exported(pico, mixture, tmp_path, "f32"), "f32").passed


def refused(base: LoadedModel, folder: Path, why: str, dtype: str = "f16") -> None:
    with pytest.raises(InvalidRequest, match=re.escape(why)):
        exported(base, [(random_edit(base, seed=1), 0.5)], folder, dtype)


@pytest.mark.parametrize(
    ("model_type", "settings", "why"),
    [
        ("llama", {"hidden_act": "relu"}, "its activation is relu"),
        ("gemma3_text", {"query_pre_attn_scalar": 4}, "query_pre_attn_scalar is 4"),
        ("qwen3", {"attention_bias": True}, "q_proj.bias is not read"),
        ("smollm3", {"no_rope_layers": [1, 0]}, "without rotation"),
        ("gemma2", {"tie_word_embeddings": False}, "no tensor for lm_head.weight"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
            "dynamic rotation",
        ),
        ("mixtral", {}, "routed experts"),
    ],
)
def test_what_llama_cpp_runs_otherwise_is_refused(
    load_pico: Load, tmp_path: Path, model_type: str, settings: dict[str, Any], why: str
) -> None:
    refused(load_pico(model_type, **settings), tmp_path, why)


def test_a_tokenizer_that_llama_cpp_does_not_have_is_refused(tmp_path: Path) -> None:
    folder = save_pico(tmp_path / "model")
    stored = (folder / "tokenizer.json").read_text(encoding="utf-8")
    spaced = stored.replace('"add_prefix_space": false', '"add_prefix_space": true', 1)
    assert spaced != stored
    (folder / "tokenizer.json").write_text(spaced, encoding="utf-8")
    refused(load_base(folder, device="cpu", dtype="float32"), tmp_path, "its rule for words")


def test_weights_beyond_f16_are_refused(pico: LoadedModel, tmp_path: Path) -> None:
    term = random_term(pico, MatrixKey(1, DOWN), seed=1)
    with pytest.raises(InvalidRequest, match="f16 cannot hold"):
        exported(pico, [([term], 1e7)], tmp_path, "f16")
    assert exported(pico, [([term], 1e7)], tmp_path, "f32").stat().st_size > 0


def test_other_formats_have_no_choice_of_dtype(bench: Bench, body: Body) -> None:
    id, _ = bench.edit(**body())
    with pytest.raises(InvalidRequest, match="no choice of dtype") as got:
        bench.submit_export(f"pico:{id}", "peft", dtype="f16")
    assert [error.pointer for error in got.value.errors] == ["/dtype"]


def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    folder = save_pico(tmp_path / "model", intermediate_size=2**19, num_hidden_layers=1)
    command = [sys.executable, "-c", _GROWTH, str(folder), str(tmp_path / "model.gguf")]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    weights = (folder / "model.safetensors").stat().st_size
    assert weights > 200e6
    assert grown < weights / 3


_GROWTH = """
import resource, sys
from pathlib import Path
from workers.runtime.llama_cpp.write import write
from workers.runtime.loading import load_base
base = load_base(Path(sys.argv[1]), device="cpu", dtype="float32")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write(base, [], Path(sys.argv[2]), dtype="f16", name="pico", base_model="pico")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def test_the_page_says_which_families_are_refused(load_pico: Load, tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "api.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.* \|)$", page.partition(SECTION)[2], re.MULTILINE))
    for model_type in ARCHITECTURES:
        base = load_pico(model_type, **ONLY_TIED.get(model_type, {}))
        try:
            exported(base, [], tmp_path, "f16")
            refusal = None
        except InvalidRequest as error:
            refusal = error.message
        assert (refusal is not None) == ("refused" in rows[model_type]), model_type
