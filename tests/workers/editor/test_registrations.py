"""Registrations of base models from folders, good and bad."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models_store.errors import BaseModelUnavailable, InvalidRequest
from models_store.work.base_models import BaseFacts
from tests.support.pico import HIDDEN, LAYERS
from tests.workers.conftest import Bench


@pytest.fixture
def folder(pico_folder: Path, tmp_path: Path) -> Path:
    """A pico model that a test may spoil."""
    return Path(shutil.copytree(pico_folder, tmp_path / "model"))


def test_a_registration_finds_out_what_the_catalogue_shows(
    empty_bench: Bench, pico_folder: Path
) -> None:
    facts = BaseFacts.model_validate(empty_bench.register(pico_folder).data)
    assert facts.fingerprint.startswith("sha256:")
    assert (facts.architecture, facts.layers, facts.hidden_size) == ("llama", LAYERS, HIDDEN)
    assert (facts.dtype, facts.chat_template, facts.context_length) == ("float32", True, 512)
    assert facts.bytes == 4 * facts.parameters
    assert empty_bench.store.bases.ready("pico").facts == facts


def test_the_same_weights_have_one_fingerprint_under_two_ids(
    empty_bench: Bench, pico_folder: Path, folder: Path
) -> None:
    first = empty_bench.register(pico_folder, "one")
    assert empty_bench.register(folder, "two").data == first.data


@pytest.mark.parametrize("family", ["phi3", "gemma3_text", "mixtral"])
def test_every_family_can_be_registered(
    empty_bench: Bench, make_pico: Callable[..., Path], family: str
) -> None:
    facts = BaseFacts.model_validate(empty_bench.register(make_pico(family)).data)
    assert facts.architecture == family


def test_a_broken_file_is_told_so(empty_bench: Bench, folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(BaseModelUnavailable, match=r"model\.safetensors"):
        empty_bench.register(folder)


def test_weights_that_are_not_finite_are_told_so(empty_bench: Bench, folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["model.norm.weight"][3] = torch.nan
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(BaseModelUnavailable, match=r"model\.norm\.weight"):
        empty_bench.register(folder)


def test_weights_that_overflow_when_they_run_are_told_so(empty_bench: Bench, folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["model.norm.weight"][:] = 3e38
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(BaseModelUnavailable, match="outputs"):
        empty_bench.register(folder)


def test_a_model_that_brings_its_own_code_is_refused(empty_bench: Bench, folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(InvalidRequest, match="auto_map"):
        empty_bench.register(folder)
