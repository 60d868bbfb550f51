"""Real services for tests: a Redis server of one's own and the API on a free port."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from app.cli import embedded_redis
from app.server.uvicorn import ApiServer, make_server
from app.services import Services, Store
from models_store.settings import Settings
from tests.support.local import NO_TLS, local_client
from tests.support.s3 import CREDENTIALS, running_s3


def own_environment(**settings: str) -> dict[str, str]:
    """That of processes which a test starts: with these settings, not with those of whoever runs
    the tests, without preparing base models, which would take the cores from other tests, and
    without flushing to disk, since no test cuts the power."""
    others = {name: value for name, value in os.environ.items() if name[:8] != "SCALPEL_"}
    return {**others, "SCALPEL_PREPARE": "false", "SCALPEL_FSYNC": "false", **settings}


@dataclass
class RedisServer:
    """A server that can be stopped and started again on the same socket and data."""

    folder: Path

    @property
    def url(self) -> str:
        return f"unix://{self.folder / 'redis.sock'}"

    def start(self) -> None:
        socket = self.folder / "redis.sock"
        self._process = embedded_redis.start(self.folder / "data", socket, self.folder / "log")
        with contextlib.closing(redis.Redis.from_url(self.url, retry=None)) as client:
            for _ in range(500):
                with contextlib.suppress(redis.RedisError):
                    client.ping()
                    return
                time.sleep(0.01)
        raise AssertionError(f"Redis does not start: {(self.folder / 'log').read_text()}")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)


@contextlib.contextmanager
def running_redis() -> Iterator[RedisServer]:
    # A socket's path is at most 108 bytes long, which pytest's own folders can exceed.
    folder = Path(tempfile.mkdtemp(prefix="sc-", dir="/tmp"))
    server = RedisServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


def _emptied(server: RedisServer) -> RedisServer:
    with contextlib.closing(server.client()) as client:
        client.flushall()
    return server


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> RedisServer:
    """A Redis server with nothing in it; not to be stopped, since tests share it."""
    return _emptied(shared_redis)


@pytest.fixture(scope="module")
def redis_of_module(shared_redis: RedisServer) -> RedisServer:
    """The same, emptied once for all tests of a file."""
    return _emptied(shared_redis)


def unmeasured_harm(folder: Path) -> Path:
    """A policy that has no harm measured, which is a quarter of the work of a small edit."""
    file = folder / "unmeasured_harm.toml"
    file.write_text("[margins]\nprompts = 0\n")
    return file


def api_settings(folder: Path, redis: RedisServer, **changes: Any) -> Settings:
    """Those of an API with a store of its own below `folder`, and no base model."""
    return Settings(
        data=folder / "data",
        cache=folder / "cache",
        redis_url=redis.url,
        default_base_model=False,
        **changes,
    )


@dataclass
class Api:
    """The API over real HTTP, and the store beneath it."""

    url: str
    http: httpx.Client
    services: Services
    server: ApiServer

    @property
    def in_flight(self) -> int:
        """Requests that are being answered."""
        return len(self.server.server_state.tasks)

    @property
    def store(self) -> Store:
        return self.services.store


@contextlib.contextmanager
def running_api(settings: Settings, *, with_keeper: bool = False) -> Iterator[Api]:
    """The API in a thread of this process, on a port that is free."""
    server = make_server(settings.model_copy(update={"port": 0}), with_keeper=with_keeper)
    state = server.config.app.state  # type: ignore[union-attr]
    state.readiness.seconds = 0.0  # tests ask right after a change
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the API does not start"
        time.sleep(0.002)
    port = server.servers[0].sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    try:
        with local_client(url, 20.0) as http:
            yield Api(url, http, state.services, server)
        _let_go(server)
    finally:
        server.handle_exit(0, None)
        thread.join(10)
        assert not thread.is_alive(), "the API does not end"


def _let_go(server: ApiServer) -> None:
    """Until the server has seen that its clients are gone: for those that it has it waits."""
    limit = time.monotonic() + 0.05
    while server.server_state.connections and time.monotonic() < limit:
        time.sleep(0.001)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    with running_s3() as url:
        yield url


@pytest.fixture
def s3_bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an empty bucket, with credentials for it in the environment."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{time.time_ns()}"
    httpx.put(f"{s3_endpoint}/{bucket}", trust_env=False, verify=NO_TLS).raise_for_status()
    return bucket
