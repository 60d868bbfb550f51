"""Fixtures that every test may use: pico models on disk and in memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from models_store.schemas.catalogue import SMOLLM2
from tests.support.weights import weights

if TYPE_CHECKING:  # the process that only hands out tests needs no torch, which takes seconds
    from workers.runtime.loading import LoadedModel

pytest_plugins = ["tests.support.services", "tests.support.stores"]

_SERVICES = {
    "tests/system/test_readme.py": "pico_service",
    "tests/system/test_client.py": "pico_service",
    "tests/system/test_logs.py": "pico_service",
    "tests/system/test_pages.py": "pico_service",
    "tests/system/test_serving.py": "smollm2_service",
    "tests/system/test_streams.py": "smollm2_service",
    "tests/system/chaos/test_away.py": "outage",
    "tests/system/chaos/test_draining.py": "outage",
}
"""The running service that a file uses together with others."""
_LONG = "tests/workers/editor/"
"""Of what starts no processes, these take longest: they make edits."""


class ByProcesses(LoadScopeScheduling):  # type: ignore[misc] # untyped
    """Gives a file to one worker, and to the same one all files that share a running service."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return _SERVICES.get(file, file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByProcesses:
    return ByProcesses(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first."""

    def rank(item: pytest.Item) -> int:
        if item.nodeid.partition("::")[0] in _SERVICES:
            return 0
        if item.get_closest_marker("system") is not None:
            return 1
        return 2 if item.nodeid.startswith(_LONG) else 3

    items.sort(key=rank)


def pytest_configure(config: pytest.Config) -> None:
    """Pico models are too small for threads to help, progress bars only hide failures, and no test
    cuts the power."""
    os.environ["SCALPEL_FSYNC"] = "false"
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return  # others run the tests
    import torch
    from transformers.utils import logging as transformers_logging

    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()


@pytest.fixture(scope="session")
def pico_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pico Llama in fp32 as a Hugging Face folder; read it, don't change it."""
    from tests.support.pico import save_pico

    return save_pico(tmp_path_factory.mktemp("pico") / "llama")


@pytest.fixture(scope="session")
def make_pico(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a pico folder of any family; equal arguments give one and the same folder."""
    from tests.support.pico import save_pico

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
    from workers.runtime.loading import load_base

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
