"""What a fine-tuned model changed becomes an edit, as far as a low rank goes; the rest is said."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models_store.errors import BaseModelUnavailable, EditFailed
from tests.workers.conftest import Bench
from tests.workers.editor.test_imports import IDS, mixture, same, served, submit
from workers.runtime.loading import LoadedModel, load_base

UP = "model.layers.1.mlp.up_proj.weight"
VALUE = "model.layers.0.self_attn.v_proj.weight"
NORM = "model.norm.weight"


def tuned(folder: Path, target: Path, change: Callable[[dict[str, Tensor]], None]) -> Path:
    """A copy of a model whose weights `change` has changed in place."""
    shutil.copytree(folder, target)
    path = target / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    return target


def of_rank(shape: torch.Size, values: list[float], seed: int) -> Tensor:
    """A matrix with these singular values."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (
        torch.linalg.qr(torch.randn(size, len(values), generator=generator))[0] for size in shape
    )
    return (left * torch.tensor(values)) @ right.T


def source(rank: int, id: str = "tuned") -> dict[str, Any]:
    return {"type": "base_model", "id": id, "rank": rank}


def brought(bench: Bench, rank: int) -> tuple[str, dict[str, Any]]:
    place = submit(bench, source=source(rank))
    facts = bench.do(place).data["imported"]
    assert isinstance(facts, dict)
    return place.id, facts


def test_a_change_of_low_rank_is_found_again(
    bench: Bench, pico: LoadedModel, pico_folder: Path, tmp_path: Path
) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        for seed, name in enumerate((UP, VALUE)):
            tensors[name] += of_rank(tensors[name].shape, [2.0, 1.0, 0.5], seed)

    folder = tuned(pico_folder, tmp_path / "tuned", change)
    bench.register(folder, "tuned")
    other = load_base(folder, device="cpu", dtype="float32")

    id, facts = brought(bench, 4)

    assert same(served(pico, mixture(bench, f"pico:{id}")), other.model(IDS).logits)
    assert (facts["kind"], facts["proof"]) == ("difference", None)
    assert facts["modules"] == ["mlp.up_proj", "self_attn.v_proj"]
    assert facts["left"].keys() == {UP, VALUE}
    assert max(facts["left"].values()) < 1e-3
    assert facts["approximation"]["kl_missed"] < 1e-6 < facts["approximation"]["kl"]


def test_a_model_that_is_gone_since_ends_the_edit_as_a_base_model_that_is(
    bench: Bench, pico_folder: Path, tmp_path: Path
) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors[UP] += of_rank(tensors[UP].shape, [2.0], 0)

    bench.register(tuned(pico_folder, tmp_path / "tuned", change), "tuned")
    place = submit(bench, source=source(4))
    bench.store.bases.remove("tuned")
    with pytest.raises(BaseModelUnavailable, match="tuned"):
        bench.do(place)


def test_what_a_rank_and_an_edit_leave_is_said(
    bench: Bench, pico_folder: Path, tmp_path: Path
) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors[UP] += of_rank(tensors[UP].shape, [2.0, 1.0, 0.5], 0)
        tensors[NORM] += 0.001

    bench.register(tuned(pico_folder, tmp_path / "tuned", change), "tuned")

    _, facts = brought(bench, 2)

    assert facts["rank"] == 2
    assert facts["left"][UP] == pytest.approx(0.5 / (4 + 1 + 0.25) ** 0.5, abs=1e-3)
    assert facts["left"][NORM] == 1.0
    assert 0 < facts["approximation"]["kl_missed"] < 0.5 * facts["approximation"]["kl"]


def test_halves_of_fused_matrices_are_put_together(
    empty_bench: Bench, make_pico: Callable[..., Path], tmp_path: Path
) -> None:
    fused = "model.layers.0.mlp.gate_up_proj.weight"

    def change(tensors: dict[str, Tensor]) -> None:
        for half, seed in ((tensors[fused][:64], 0), (tensors[fused][64:], 1)):
            half += of_rank(half.shape, [2.0, 1.0], seed)

    folder = make_pico("phi3")
    empty_bench.register(folder)
    empty_bench.register(tuned(folder, tmp_path / "tuned", change), "tuned")
    _, facts = brought(empty_bench, 1)
    assert facts["left"] == {fused: pytest.approx((1 / 5) ** 0.5, abs=1e-3)}


def test_another_model_is_not_taken_for_an_edit(
    bench: Bench, make_pico: Callable[..., Path], pico_folder: Path, tmp_path: Path
) -> None:
    bench.register(make_pico(seed=3), "tuned")
    with pytest.raises(EditFailed, match="is not close to what was imported") as caught:
        bench.do(submit(bench, source=source(4)))
    assert caught.value.code == "invalid_import"

    def embeddings(tensors: dict[str, Tensor]) -> None:
        tensors["model.embed_tokens.weight"] += 0.1

    bench.register(tuned(pico_folder, tmp_path / "embeddings", embeddings), "embeddings")
    with pytest.raises(EditFailed, match="nothing that an edit can reach"):
        bench.do(submit(bench, source=source(4, "embeddings")))
