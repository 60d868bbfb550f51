"""Fixtures that every test may use: pico models on disk and in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.utils import logging as transformers_logging

from models_store.catalogue import SMOLLM2
from models_store.errors import BaseModelUnavailable
from models_store.settings import Settings
from tests.pico import save_pico
from workers.runtime.base_models import materialise
from workers.runtime.loading import BaseModel, load_base


def pytest_configure() -> None:
    """Pico models are too small for threads to help, and progress bars only hide failures."""
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
def load_pico(make_pico: Callable[..., Path]) -> Callable[..., BaseModel]:
    """Load a pico model of any family on the CPU; each call gives weights of its own."""

    def load(model_type: str = "llama", load_dtype: str = "float32", **options: Any) -> BaseModel:
        return load_base(make_pico(model_type, **options), device="cpu", dtype=load_dtype)

    return load


@pytest.fixture(scope="session")
def smollm2_folder() -> Path:
    """SmolLM2-135M-Instruct in the user's cache, converted at first use."""
    try:
        return materialise(SMOLLM2.source, Settings().cache)
    except BaseModelUnavailable as error:
        pytest.skip(error.message)


@pytest.fixture
def pico(load_pico: Callable[..., BaseModel]) -> BaseModel:
    """A pico Llama in fp32, fresh for this test."""
    return load_pico()
