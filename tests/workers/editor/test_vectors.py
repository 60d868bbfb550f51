"""Control vectors and steering vectors become the nearest edits, and say how near that is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models_store.errors import EditFailed
from tests.workers.conftest import Bench
from tests.workers.editor.test_imports import mixture, served, submit
from workers.editor.imports import approximation
from workers.runtime.edits.steering import steered
from workers.runtime.loading import LoadedModel

IDS = torch.tensor([[1, 20, 21, 22, 300, 9, 40, 41]])


def vector(seed: int, size: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32) / 4


def control_vector(
    path: Path, directions: dict[int, np.ndarray], architecture: str = "controlvector"
) -> Path:
    """As repeng writes it."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_string("controlvector.model_hint", "llama")
    writer.add_uint32("controlvector.layer_count", len(directions))
    for layer, direction in directions.items():
        writer.add_tensor(f"direction.{layer}", direction)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def base(load_pico: Callable[..., LoadedModel]) -> LoadedModel:
    return load_pico(first_token=True)


def brought(bench: Bench, path: Path) -> tuple[str, dict[str, Any]]:
    place = submit(bench, path)
    facts = bench.do(place).data["imported"]
    assert isinstance(facts, dict)
    return place.id, facts


@torch.no_grad()
def test_a_control_vector_does_nearly_what_hooks_would(
    first_token_bench: Bench, base: LoadedModel, tmp_path: Path
) -> None:
    direction = vector(0)
    path = control_vector(tmp_path / "happy.gguf", {1: direction})

    id, facts = brought(first_token_bench, path)

    assert (facts["kind"], facts["made_for"], facts["proof"]) == ("control_vector", "llama", None)
    assert (facts["modules"], facts["layers"], facts["rank"]) == (["mlp.down_proj"], [1], 1)
    near = facts["approximation"]
    assert 0 < near["kl_missed"] < 0.35 * near["kl"]
    with steered(base, {1: torch.tensor(direction)}):
        wanted = base.model(IDS).logits
    plain, edited = base.model(IDS).logits, served(base, mixture(first_token_bench, f"pico:{id}"))
    # At every token but the first, which stays.
    far, close = (wanted - plain)[:, 1:].norm(), (wanted - edited)[:, 1:].norm()
    assert float(close) < 0.6 * float(far)
    assert float((edited - plain)[:, 0].norm()) < 0.2 * float((wanted - plain)[:, 0].norm())


def test_steering_vectors_by_layer_are_the_same_edit(
    first_token_bench: Bench, tmp_path: Path
) -> None:
    direction = vector(1)
    _, facts = brought(first_token_bench, control_vector(tmp_path / "a.gguf", {1: direction}))
    path = tmp_path / "a.safetensors"
    save_file({"layer.1": torch.tensor(direction), "layer.0": torch.zeros(32)}, path)

    _, same = brought(first_token_bench, path)

    assert same["kind"] == "steering_vectors"
    assert same["layers"] == [1]
    assert same["approximation"] == facts["approximation"]


def refused(bench: Bench, path: Path) -> str:
    with pytest.raises(EditFailed) as caught:
        bench.do(submit(bench, path))
    assert caught.value.code == "invalid_import"
    return caught.value.message


def test_what_is_no_vector_of_the_model_is_refused(
    first_token_bench: Bench, tmp_path: Path
) -> None:
    def made(name: str, *arguments: Any) -> str:
        return refused(first_token_bench, control_vector(tmp_path / name, *arguments))

    assert "direction.2 of shape (32,) is no vector of a layer" in made("a", {2: vector(0)})
    assert "vectors of 32 numbers" in made("b", {1: vector(0, 48)})
    assert "changes nothing" in made("c", {1: np.zeros(32, np.float32)})
    assert "not finite" in made("d", {1: np.full(32, np.inf, np.float32)})
    assert "this one is llama" in made("e", {1: vector(0)}, "llama")
    assert "is F16, not F32" in made("f", {1: vector(0).astype(np.float16)})
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\xff" * 60)
    assert "cannot be read as GGUF" in refused(first_token_bench, broken)


def test_families_that_normalise_outputs_are_refused(
    empty_bench: Bench, make_pico: Callable[..., Path], tmp_path: Path
) -> None:
    empty_bench.register(make_pico("gemma2"))
    message = refused(empty_bench, control_vector(tmp_path / "a.gguf", {1: vector(0)}))
    assert "gemma2 models normalise what down_proj gives" in message


def test_an_edit_that_misses_too_much_is_refused(
    first_token_bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approximation, "MAX_MISSED", 1e-3)
    path = control_vector(tmp_path / "a.gguf", {1: vector(0)})
    assert "is not close to what was imported" in refused(first_token_bench, path)


def test_a_layer_in_which_first_tokens_would_move_is_refused(bench: Bench, tmp_path: Path) -> None:
    path = control_vector(tmp_path / "a.gguf", {1: vector(0)})
    assert "first tokens would move" in refused(bench, path)
