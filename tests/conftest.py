"""Fixtures that every test may use: pico models on disk and in memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.utils import logging as transformers_logging
from xdist.scheduler import LoadScopeScheduling

from models_store.schemas.catalogue import SMOLLM2
from tests.support.pico import save_pico
from tests.support.weights import weights
from workers.runtime.loading import LoadedModel, load_base

pytest_plugins = ["tests.support.services", "tests.support.stores"]

_SERVICES = {
    "test_readme.py": "pico_service",
    "test_client.py": "pico_service",
    "test_logs.py": "pico_service",
    "test_pages.py": "pico_service",
    "test_serving.py": "smollm2_service",
    "test_streams.py": "smollm2_service",
}
"""The running service that a file uses together with others."""


class ByProcesses(LoadScopeScheduling):  # type: ignore[misc] # untyped
    """Gives a file to one worker, and to the same one all files that share a running service."""

    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.partition("::")[0])
        in_system = file.parent.name == "system"
        return _SERVICES.get(file.name, str(file)) if in_system else str(file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByProcesses:
    return ByProcesses(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first."""

    def rank(item: pytest.Item) -> int:
        if item.path.name in _SERVICES:
            return 0
        return 1 if item.get_closest_marker("system") is not None else 2

    items.sort(key=rank)


def pytest_configure() -> None:
    """Pico models are too small for threads to help, progress bars only hide failures, and no test
    cuts the power."""
    os.environ["SCALPEL_FSYNC"] = "false"
    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()


@pytest.fixture(scope="session")
def pico_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pico Llama in fp32 as a Hugging Face folder; read it, don't change it."""
    return save_pico(tmp_path_factory.mktemp("pico") / "llama")


@pytest.fixture(scope="session")
def make_pico(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a pico folder of any family; equal arguments give one and the same folder."""
    made: dict[str, Path] = {}

    def make(model_type: str = "llama", **options: Any) -> Path:
        key = repr((model_type, sorted(options.items())))
        if key not in made:
            made[key] = save_pico(
                tmp_path_factory.mktemp("pico") / model_type, model_type, **options
            )
        return made[key]

    return make


@pytest.fixture(scope="session")
def load_pico(make_pico: Callable[..., Path]) -> Callable[..., LoadedModel]:
    """Load a pico model of any family on the CPU; each call gives weights of its own."""

    def load(model_type: str = "llama", load_dtype: str = "float32", **options: Any) -> LoadedModel:
        return load_base(make_pico(model_type, **options), device="cpu", dtype=load_dtype)

    return load


@pytest.fixture(scope="session")
def smollm2_folder() -> Path:
    """SmolLM2-135M-Instruct in the user's cache."""
    return weights(SMOLLM2)


@pytest.fixture
def pico(load_pico: Callable[..., LoadedModel]) -> LoadedModel:
    """A pico Llama in fp32, fresh for this test."""
    return load_pico()
