"""A vLLM server for CPUs, in a separate process and Python environment."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from app.cli.supervisor import free_port

PYTHON = "SCALPEL_VLLM_PYTHON"
"""The variable that names an interpreter with vLLM."""
MAX_LORAS = 4
_READY_SECONDS = 300.0


@contextlib.contextmanager
def vllm_server(python: str, model: Path, dtype: str, log: Path) -> Iterator[str]:
    """Serve the folder `model` with room for a few adapters; yields the server's URL.

    Raises:
        RuntimeError: it does not start; the message has the end of its log.
    """
    port = free_port("127.0.0.1")
    command = [
        *(python, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(model), "--served-model-name", "base", "--dtype", dtype),
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
        # Two threads that busy-wait on shared cores are ten times slower than one.
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


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    limit = time.monotonic() + _READY_SECONDS
    while time.monotonic() < limit and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health", trust_env=False).status_code == 200:
                return
        time.sleep(0.5)
    raise RuntimeError(f"vLLM does not start:\n{log.read_text(errors='replace')[-4000:]}")
