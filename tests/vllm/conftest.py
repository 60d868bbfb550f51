"""A real vLLM server with SmolLM2, in an environment of its own; `make test-vllm` makes that."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest

PYTHON = "SCALPEL_VLLM_PYTHON"
MAX_LORAS = 4
_READY_SECONDS = 300.0


@pytest.fixture(scope="session")
def vllm_server(
    smollm2_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], AbstractContextManager[str]]:
    """Start one with a dtype; gives its address."""
    python = os.environ.get(PYTHON)
    if not python:
        pytest.skip(f"no vLLM: {PYTHON} names no interpreter that has it; run make test-vllm")

    @contextlib.contextmanager
    def running(dtype: str) -> Iterator[str]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        log = tmp_path_factory.mktemp("vllm") / "server.log"
        command = [
            *(python, "-m", "vllm.entrypoints.openai.api_server"),
            *("--model", str(smollm2_folder), "--served-model-name", "smol", "--dtype", dtype),
            *("--host", "127.0.0.1", "--port", str(port), "--max-model-len", "1024"),
            *("--max-num-seqs", "32", "--enable-lora", "--max-lora-rank", "8"),
            *("--max-loras", str(MAX_LORAS), "--max-cpu-loras", "16"),
        ]
        environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
            # Two threads that spin on shared cores are ten times slower than one.
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "passive",
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, env=environment, stdout=output, stderr=subprocess.STDOUT
            )
        url = f"http://127.0.0.1:{port}"
        try:
            _wait(url, process, log)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    return running


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    limit = time.monotonic() + _READY_SECONDS
    while time.monotonic() < limit and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health", trust_env=False).status_code == 200:
                return
        time.sleep(0.5)
    raise AssertionError(f"vLLM does not start:\n{log.read_text(errors='replace')[-4000:]}")


@pytest.fixture(scope="session")
def exact_server(
    vllm_server: Callable[[str], AbstractContextManager[str]],
) -> Iterator[str]:
    """One that computes in fp32."""
    with vllm_server("float32") as url:
        yield url
