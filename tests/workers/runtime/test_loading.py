"""Loading: what is there is loaded as it is, and what is broken is said."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models_store.errors import BaseModelUnavailable, InvalidRequest
from models_store.weights.architectures import DOWN, GATE, OUTPUT, UP, MatrixKey
from workers.runtime.base_models import fingerprint
from workers.runtime.loading import LoadedModel, cpu_capability, load_base


@pytest.fixture
def copied(pico_folder: Path, tmp_path: Path) -> Path:
    """A pico folder that may be broken."""
    return Path(shutil.copytree(pico_folder, tmp_path / "model"))


@pytest.mark.parametrize(
    ("capability", "cpu", "amx", "slow"),
    [
        ("AVX2", "Intel Xeon", False, True),
        ("AVX512", "Intel Xeon", False, True),
        ("AVX512", "Intel Xeon", True, False),
        ("AVX512", "AMD EPYC", False, False),
    ],
)
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_auto_keeps_the_stored_dtype_where_the_cpu_is_fast_at_it(
    load_pico: Callable[..., LoadedModel],
    monkeypatch: pytest.MonkeyPatch,
    stored: torch.dtype,
    capability: str,
    cpu: str,
    amx: bool,
    slow: bool,
) -> None:
    found = {"cpu_name": cpu, "avx512_bf16": True, "amx_bf16": amx}
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    base = load_pico(load_dtype="auto", dtype=stored)
    expected = torch.float32 if slow else stored
    assert base.dtype == expected
    assert {parameter.dtype for parameter in base.model.parameters()} == {expected}


def test_a_cpu_is_told_by_what_rounds_its_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"avx512_f": True, "avx512_bf16": True, "amx_bf16": False, "cpu_name": "x"}
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert cpu_capability() == "AVX512 avx512_bf16"
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert cpu_capability() == "AVX512"


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16", "float64"])
def test_a_dtype_can_be_asked_for(load_pico: Callable[..., LoadedModel], name: str) -> None:
    assert load_pico(load_dtype=name).dtype == getattr(torch, name)


def test_a_loaded_model_knows_itself(pico: LoadedModel, pico_folder: Path) -> None:
    assert pico.fingerprint == fingerprint(pico_folder)
    assert (pico.layers, pico.hidden_size) == (2, 32)
    assert pico.vocabulary == len(pico.tokenizer)
    assert pico.has_chat_template
    assert not pico.model.training
    assert not any(parameter.requires_grad for parameter in pico.model.parameters())


def test_matrices_are_views_of_the_weights(load_pico: Callable[..., LoadedModel]) -> None:
    base = load_pico("phi3")
    fused = base.model.model.layers[1].mlp.gate_up_proj.weight
    gate, up = base.matrix(MatrixKey(1, GATE)), base.matrix(MatrixKey(1, UP))
    gate.fill_(1.0)
    up.fill_(2.0)
    assert torch.equal(fused, torch.cat([torch.ones(64, 32), torch.full((64, 32), 2.0)]))
    assert base.linear(MatrixKey(1, GATE))[1] == 0
    assert base.linear(MatrixKey(1, UP))[1] == 64
    assert base.linear(MatrixKey(1, DOWN))[0] is base.model.model.layers[1].mlp.down_proj
    assert base.linear(MatrixKey(0, OUTPUT))[0] is base.model.model.layers[0].self_attn.o_proj


@pytest.mark.parametrize("model_type", ["llama", "gemma2"])
def test_logits_are_those_of_the_whole_model(
    load_pico: Callable[..., LoadedModel], model_type: str
) -> None:
    base = load_pico(model_type, seed=3)
    with torch.no_grad():
        base.model.lm_head.weight.mul_(40)  # far enough for Gemma 2's soft cap to show
        ids = torch.arange(4, 12)[None]
        states = base.model.model(ids).last_hidden_state
        assert torch.allclose(base.logits(states), base.model(ids).logits, atol=1e-5)


def test_a_missing_folder_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(BaseModelUnavailable, match="cannot load"):
        load_base(tmp_path / "nowhere", device="cpu", dtype="auto")


def test_a_cut_file_is_unavailable(copied: Path) -> None:
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(BaseModelUnavailable, match="cannot load"):
        load_base(copied, device="cpu", dtype="auto")


def test_weights_that_are_missing_are_not_made_up(copied: Path) -> None:
    weights = load_file(copied / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BaseModelUnavailable, match=r"lack 1 weights.*layers\.1\.mlp\.up_proj"):
        load_base(copied, device="cpu", dtype="auto")


def test_pickled_weights_are_not_read(copied: Path) -> None:
    torch.save(load_file(copied / "model.safetensors"), copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    with pytest.raises(BaseModelUnavailable, match="cannot load"):
        load_base(copied, device="cpu", dtype="auto")


def test_another_architecture_is_refused_by_name(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    config["model_type"] = "gpt2"
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidRequest, match="gpt2"):
        load_base(copied, device="cpu", dtype="auto")


def test_an_unknown_dtype_is_refused(pico_folder: Path) -> None:
    with pytest.raises(InvalidRequest, match="int8"):
        load_base(pico_folder, device="cpu", dtype="int8")


@pytest.mark.slow
def test_preloading_imports_what_loading_needs(pico_folder: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from workers.runtime.loading import load_base, preload\n"
        "preload('llama')\n"
        "assert 'transformers.models.llama.modeling_llama' in sys.modules\n"
        "before = {name for name in sys.modules if 'modeling_' in name}\n"
        f"load_base(Path({str(pico_folder)!r}), device='cpu', dtype='auto')\n"
        "assert {name for name in sys.modules if 'modeling_' in name} == before\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=280)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_a_model_loads_onto_a_gpu(pico_folder: Path, device: str) -> None:
    base = load_base(pico_folder, device=device, dtype="bfloat16")
    assert base.device.type == "cuda"
    assert {parameter.device.type for parameter in base.model.parameters()} == {"cuda"}
