"""A real vLLM server with SmolLM2, in an environment of its own; `make test-vllm` makes that."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from benchmarks.serving.vllm_server import PYTHON, vllm_server


@pytest.fixture(scope="session")
def start_vllm(
    smollm2_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., AbstractContextManager[str]]:
    """Start one with a dtype, of SmolLM2 or of the model in a folder; gives its address."""
    python = os.environ.get(PYTHON)
    if not python:
        pytest.skip(f"no vLLM: {PYTHON} names no interpreter that has it; run make test-vllm")
    folder = tmp_path_factory.mktemp("vllm")

    def start(dtype: str, model: Path = smollm2_folder) -> AbstractContextManager[str]:
        return vllm_server(python, model, dtype, folder / f"{model.name}-{dtype}.log")

    return start


@pytest.fixture(scope="session")
def exact_server(start_vllm: Callable[..., AbstractContextManager[str]]) -> Iterator[str]:
    """One that computes in fp32."""
    with start_vllm("float32") as url:
        yield url
