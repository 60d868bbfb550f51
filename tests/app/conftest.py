"""Fixtures of the HTTP tests: real HTTP over a real store and a real Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from models_store.settings import Settings
from tests.app.support.generator import FakeGenerator, running_generator
from tests.app.support.worker import Worker
from tests.support.services import Api, RedisServer, api_settings, running_api


@pytest.fixture
def settings(tmp_path: Path, redis_server: RedisServer) -> Settings:
    return api_settings(tmp_path, redis_server, internal_token="a shared secret", drain_seconds=3)


@pytest.fixture
def api(settings: Settings) -> Iterator[Api]:
    with running_api(settings) as running:
        yield running


@pytest.fixture
def worker(api: Api) -> Worker:
    """Does what an editor does to the store and to Redis, and has registered `pico`."""
    worker = Worker(api.store, api.services.live.client)
    worker.register("pico")
    return worker


@pytest.fixture
def generator(api: Api) -> Iterator[FakeGenerator]:
    """A generator that the API knows of."""
    with running_generator() as fake:
        fake.beat(api.services.live.client)
        yield fake
