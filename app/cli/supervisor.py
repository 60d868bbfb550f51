"""`scalpel up`: every part on this machine, in one process tree that starts and ends together."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import redis

from app.cli import embedded_redis
from models_store.errors import Conflict, Unavailable
from models_store.live.heartbeats import make_internal_token
from models_store.process.lifetimes import die_with_parent
from models_store.settings import Settings

_FIRST_RESTART_SECONDS = 0.2
_SLOWEST_RESTART_SECONDS = 5.0
_HEALTHY_SECONDS = 30.0
_STOP_GRACE_SECONDS = 5.0
_POLL_SECONDS = 0.1
_ROTATE_SECONDS = 30.0
LOG_BYTES = 32 * 2**20
"""Of a log that is then put aside, as `name.log.1`, in place of the one before."""


def rotate_logs(folder: Path) -> None:
    """Copy and empty logs that have grown large: their processes write on to the end of them."""
    for log in folder.glob("*.log"):
        with contextlib.suppress(OSError):  # such as a full disk, which must not end the rest
            if log.stat().st_size > LOG_BYTES:
                shutil.copyfile(log, log.with_name(f"{log.name}.1"))
                os.truncate(log, 0)


@dataclass
class SupervisedPart:
    """One supervised process: started again whenever it ends, with growing pauses."""

    name: str
    start: Callable[[], subprocess.Popen[bytes]]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    due_at: float = 0.0
    pause: float = field(default=_FIRST_RESTART_SECONDS)

    def tend(self, say: Callable[[str], None]) -> None:
        """Start the process if it should run and does not."""
        now = time.monotonic()
        if self.process is not None and self.process.poll() is not None:
            if now - self.started_at > _HEALTHY_SECONDS:
                self.pause = _FIRST_RESTART_SECONDS
            code = self.process.returncode
            say(f"{self.name} ended (exit code {code}), starting it again in {self.pause:.1f} s")
            self.process = None
            self.due_at = now + self.pause
            self.pause = min(self.pause * 2, _SLOWEST_RESTART_SECONDS)
        if self.process is None and now >= self.due_at:
            self.process = self.start()
            self.started_at = now

    def stop(self, within: float) -> None:
        """Ask the process to end, and end it when it has not within that many seconds."""
        if self.process is None:
            return
        try:
            self.process.wait(within)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Supervisor:
    """Starts Redis, the API, one editor and one generator; takes them all down again.

    Raises (on entering `running`):
        Conflict: another one runs on the same data folder, or a program listens on the port.
        Unavailable: there is no Redis server to start.
    """

    def __init__(self, settings: Settings, say: Callable[[str], None] = print) -> None:
        self.settings = settings
        self.logs = settings.data / "logs"
        self.port = settings.port or free_port(settings.host)
        self._say = say
        self._stopping = False
        self._parts: list[SupervisedPart] = []
        self._env = self._environment()

    @property
    def url(self) -> str:
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return f"http://{host}:{self.port}"

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """All parts run inside; none is left outside, however it is left."""
        self.logs.mkdir(parents=True, exist_ok=True)
        with self._lock():
            require_free(self.settings.host, self.port)
            try:
                self._start_redis()
                for name, module in (
                    ("api", ["app.cli.main", "api"]),
                    ("editor", ["workers.editor"]),
                    ("generator", ["workers.generator"]),
                ):
                    self._parts.append(SupervisedPart(name, self._starter(name, module)))
                yield
            finally:
                self._stop_all()

    def wait_until_ready(self, timeout: float = 300.0) -> None:
        """Return once an edit and a completion would be served, or `request_stop` was called.

        Raises:
            Unavailable: not within `timeout` seconds; the message names the logs.
        """
        deadline = time.monotonic() + timeout
        with httpx.Client(timeout=2.0, trust_env=False) as client:
            while not self._stopping:
                self.tend()
                with contextlib.suppress(httpx.HTTPError):
                    if client.get(f"{self.url}/readyz?require=all").status_code == 200:
                        return
                if time.monotonic() > deadline:
                    raise Unavailable(
                        f"not ready after {timeout:.0f} s: see the logs in {self.logs}",
                        code="overloaded",
                    )
                time.sleep(_POLL_SECONDS)

    def run(self) -> None:
        """Keep the parts running until `request_stop`."""
        looked_at = time.monotonic()
        while not self._stopping:
            self.tend()
            if time.monotonic() > looked_at + _ROTATE_SECONDS:
                looked_at = time.monotonic()
                rotate_logs(self.logs)
            time.sleep(_POLL_SECONDS)

    def tend(self) -> None:
        for part in self._parts:
            part.tend(self._say)

    def request_stop(self, *_: object) -> None:
        """To be used as a signal handler."""
        self._stopping = True

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        path = self.settings.data / "lock"
        with path.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict(
                    f"another `scalpel up` runs on {self.settings.data}: stop it, or choose "
                    "another folder with --data",
                    code="in_use",
                ) from None
            yield

    def _environment(self) -> dict[str, str]:
        given = {
            "SCALPEL_DATA": str(self.settings.data),
            "SCALPEL_HOST": self.settings.host,
            "SCALPEL_PORT": str(self.port),
            "SCALPEL_INTERNAL_TOKEN": make_internal_token(self.settings),
        }
        return {**os.environ, **given}

    def _start_redis(self) -> None:
        url = self.settings.redis_url
        note = self.settings.embedded_redis_dir / "url"
        if not url:
            path = embedded_redis.runtime_dir(self.settings.data) / "redis.sock"
            folder, log = self.settings.embedded_redis_dir, self.logs / "redis.log"
            part = SupervisedPart("redis", lambda: embedded_redis.start(folder, path, log))
            self._parts.append(part)
            self.tend()
            url = f"unix://{path}"
            _wait_for_redis(url)
            note.write_text(url, encoding="utf-8")
        self._env["SCALPEL_REDIS_URL"] = url

    def _starter(self, name: str, module: list[str]) -> Callable[[], subprocess.Popen[bytes]]:
        parent = os.getpid()

        def start() -> subprocess.Popen[bytes]:
            with (self.logs / f"{name}.log").open("ab") as output:
                return subprocess.Popen(  # noqa: S603 - our own command line
                    [sys.executable, "-m", *module],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=self._env,
                    # A Ctrl-C reaches the supervisor alone, which ends the parts in order.
                    start_new_session=True,
                    preexec_fn=lambda: die_with_parent(parent, signal.SIGTERM),
                )

        return start

    def _stop_all(self) -> None:
        """The parts that use Redis first, all at once; Redis last."""
        users = [part for part in self._parts if part.name != "redis"]
        for group in (users, [part for part in self._parts if part.name == "redis"]):
            for part in group:
                if part.process is not None:
                    part.process.terminate()
            limit = time.monotonic() + self.settings.drain_seconds + _STOP_GRACE_SECONDS
            for part in group:
                part.stop(max(0.0, limit - time.monotonic()))
        (self.settings.embedded_redis_dir / "url").unlink(missing_ok=True)
        self._parts.clear()


def _wait_for_redis(url: str, timeout: float = 20.0) -> None:
    client = redis.Redis.from_url(url, socket_connect_timeout=1.0, retry=None)
    deadline = time.monotonic() + timeout
    while True:
        try:
            client.ping()
            return
        except redis.exceptions.RedisError as error:
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"the embedded Redis did not start: {error}", code="overloaded"
                ) from error
            time.sleep(0.02)
        finally:
            client.close()


def free_port(host: str) -> int:
    """A TCP port of the host that nothing listens on now."""
    return _bound_port(host, 0)


def require_free(host: str, port: int) -> None:
    """Raise `Conflict` if a program listens on the port."""
    try:
        _bound_port(host, port)
    except OSError as error:
        raise Conflict(
            f"cannot listen on port {port} of {host} ({error.strerror}): stop the program that "
            "does, or choose another port with --port; --port 0 takes a free one",
            code="in_use",
        ) from error


def _bound_port(host: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As the API does: what only waits to close does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        found: int = probe.getsockname()[1]
        return found
