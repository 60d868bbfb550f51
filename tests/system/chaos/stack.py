"""Every process of Scalpel on this machine, restarted when it ends, and ways to disturb each."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import httpx
import psutil

from app.cli import embedded_redis
from app.cli.supervisor import SupervisedPart, free_port
from models_store.process.lifetimes import die_with_parent
from models_store.settings import Settings
from tests.support.forked import Forked
from tests.support.local import local_client
from tests.support.pico import save_pico
from tests.support.services import own_environment, unmeasured_harm

EDITORS = ("editor-1", "editor-2")
LEASE_SECONDS = 3.0
DRAIN_SECONDS = 5.0
GENERATOR_DRAIN_SECONDS = 0.5
"""Short, so that some streams do not end within it."""
_TEND_SECONDS = 0.1
_LIMIT_TICKS = 20
"""How often the limit is lifted again, for children that were forked meanwhile."""
_MODULES = {
    "api": "app.cli.main",
    **dict.fromkeys(EDITORS, "workers.editor"),
    "generator": "workers.generator",
}


class Stack:
    """API, two editors, a generator and Redis over one store, with the base model `pico`."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.folder = folder
        # A socket's path is at most 108 bytes long.
        self._sockets = Path(tempfile.mkdtemp(prefix="sc-", dir="/tmp"))
        self.redis_url = f"unix://{self._sockets / 'redis.sock'}"
        self.port = free_port("127.0.0.1")
        self.url = f"http://127.0.0.1:{self.port}"
        own = {
            "OMP_NUM_THREADS": "1",
            "SCALPEL_DATA": str(folder / "data"),
            "SCALPEL_CACHE": str(folder / "cache"),
            "SCALPEL_REDIS_URL": self.redis_url,
            "SCALPEL_PORT": str(self.port),
            "SCALPEL_LEASE_SECONDS": f"{LEASE_SECONDS:g}",
            "SCALPEL_RING_SECONDS": "2",
            "SCALPEL_DRAIN_SECONDS": f"{DRAIN_SECONDS:g}",
            "SCALPEL_DEFAULT_BASE_MODEL": "false",
            "SCALPEL_BASE_MODELS": str(self._catalogue()),
            "SCALPEL_POLICY": str(unmeasured_harm(folder)),
        }
        self.env = own_environment(**{**own, **settings})
        self.full = False
        """Whether their files cannot grow, as on a full disk."""
        self.held: set[str] = set()
        """Names of processes that are not restarted when they end."""
        self._limits = 0
        """How often the limit is still to be lifted."""
        self._closing = threading.Event()
        self.parts = {"redis": SupervisedPart("redis", self._start_redis)}
        self.parts |= {name: SupervisedPart(name, self._starter(name)) for name in _MODULES}
        self._tender = threading.Thread(target=self._tend, daemon=True)
        self._tender.start()

    @property
    def settings(self) -> Settings:
        """The settings of its processes, to open its store and Redis from outside."""
        names = {name[8:].lower(): value for name, value in self.env.items() if "SCALPEL_" in name}
        return Settings(**names)  # type: ignore[arg-type]

    def client(self, timeout: float = 20.0) -> httpx.Client:
        return local_client(self.url, timeout)

    def pid(self, name: str) -> int | None:
        process = self.parts[name].process
        return process.pid if process is not None and process.poll() is None else None

    def children(self) -> list[tuple[int, int]]:
        """The processes of running attempts, each with its editor."""
        pids = []
        for name in EDITORS:
            pid = self.pid(name)
            with contextlib.suppress(psutil.NoSuchProcess):
                if pid is not None:
                    pids += [(child.pid, pid) for child in psutil.Process(pid).children()]
        return pids

    def wait_until_ready(self, seconds: float = 180.0) -> None:
        limit = time.monotonic() + seconds
        body = ""
        with self.client(5) as http:
            while time.monotonic() < limit:
                with contextlib.suppress(httpx.HTTPError):
                    response = http.get("/readyz?require=all")
                    body = response.text
                    editors = response.json()["parts"]["editors"]["count"] or 0
                    if response.status_code == 200 and editors >= len(EDITORS):
                        return
                time.sleep(0.1)
        raise AssertionError(f"not ready after {seconds:.0f} s: {body}\n{self.logs()}")

    def logs(self, each: int = 3000) -> str:
        files = sorted(self.folder.glob("*.log"))
        return "\n".join(f"== {file.name}\n{file.read_text()[-each:]}" for file in files)

    def close(self) -> None:
        self._closing.set()
        self._tender.join()
        for part in self.parts.values():
            if part.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(part.process.pid, signal.SIGKILL)
                part.process.wait()
        shutil.rmtree(self._sockets)

    def _tend(self) -> None:
        # In one thread for all of their life: they die with the thread that started them.
        while not self._closing.is_set():
            for name, part in self.parts.items():
                if name not in self.held:
                    part.tend(lambda _: None)
            if self.full:
                self._limits = _LIMIT_TICKS
                self._limit(0)
            elif self._limits > 0:
                self._limits -= 1
                self._limit(resource.RLIM_INFINITY)
            time.sleep(_TEND_SECONDS)

    def _limit(self, size: int) -> None:
        for name in _MODULES:
            pid = self.pid(name)
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                if pid is None:
                    continue
                for target in [pid, *(child.pid for child in psutil.Process(pid).children())]:
                    resource.prlimit(target, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def _start_redis(self) -> subprocess.Popen[bytes]:
        sock = self._sockets / "redis.sock"
        return embedded_redis.start(self._sockets / "redis", sock, self.folder / "redis.log")

    def _starter(self, name: str) -> Callable[[], subprocess.Popen[bytes]]:
        log = self.folder / f"{name}.log"

        def start() -> subprocess.Popen[bytes]:
            if name != "api":
                extra = {"SCALPEL_DRAIN_SECONDS": f"{GENERATOR_DRAIN_SECONDS:g}"}
                env = {**self.env, **extra} if name == "generator" else self.env
                return cast("subprocess.Popen[bytes]", Forked(_MODULES[name], env, log))
            parent = os.getpid()
            with log.open("ab") as output:
                return subprocess.Popen(
                    [sys.executable, "-m", _MODULES[name], "api"],
                    env=self.env,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=lambda: die_with_parent(parent, signal.SIGKILL),
                )

        return start

    def _catalogue(self) -> Path:
        save_pico(self.folder / "pico")
        path = self.folder / "base_models.toml"
        path.write_text(
            '[[base_model]]\nid = "pico"\nsource = { type = "folder", path = "pico" }\n'
        )
        return path


@contextlib.contextmanager
def running_stack(folder: Path, settings: dict[str, str]) -> Iterator[Stack]:
    """A context with all processes ready; none is left after it."""
    stack = Stack(folder, settings)
    try:
        stack.wait_until_ready()
        yield stack
    finally:
        stack.close()
