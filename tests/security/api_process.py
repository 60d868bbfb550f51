"""The API as a process of its own, whose memory and open files can be looked at."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from app.cli.supervisor import free_port
from models_store.process.lifetimes import die_with_parent
from tests.support.local import NO_TLS


@dataclass
class ApiProcess:
    """A running `scalpel api`."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def memory(self) -> int:
        """Resident bytes."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    @property
    def open_connections(self) -> int:
        found = psutil.Process(self.process.pid).net_connections("tcp")
        return sum(one.status == psutil.CONN_ESTABLISHED for one in found)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def answers_within(self, seconds: float, path: str = "/healthz") -> bool:
        """Whether a stranger to all that goes on is answered, and soon."""
        started = time.monotonic()
        answer = httpx.get(self.url + path, timeout=30, trust_env=False, verify=NO_TLS)
        return answer.status_code == 200 and time.monotonic() - started < seconds


@contextlib.contextmanager
def api_process(folder: Path, redis_url: str, **settings: str) -> Iterator[ApiProcess]:
    port = free_port("127.0.0.1")
    own = {name: value for name, value in os.environ.items() if not name.startswith("SCALPEL_")}
    own |= {
        "SCALPEL_DATA": str(folder / "data"),
        "SCALPEL_CACHE": str(folder / "cache"),
        "SCALPEL_REDIS_URL": redis_url,
        "SCALPEL_PORT": str(port),
        "SCALPEL_DEFAULT_BASE_MODEL": "false",
    }
    parent = os.getpid()
    log = folder / "api.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli.main", "api"],
            env={**own, **settings},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: die_with_parent(parent),
        )
    api = ApiProcess(port, process, log)
    try:
        limit = time.monotonic() + 60
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if api.answers_within(60, "/readyz"):
                    break
            alive = process.poll() is None and time.monotonic() < limit
            assert alive, log.read_text()
            time.sleep(0.05)
        yield api
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
