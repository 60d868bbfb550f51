"""A cluster of real processes that the fault tests share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.services import RedisServer, api_settings, running_redis, unmeasured_harm
from tests.system.faults.harness import Cluster, running_cluster
from tests.system.faults.trap import Trap

LEASE_SECONDS = 3.0


@pytest.fixture(scope="module")
def redis_of_module() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture(scope="module")
def trap(redis_of_module: RedisServer) -> Iterator[Trap]:
    folder = redis_of_module.folder
    with Trap(folder / "redis.sock", folder / "trap.sock") as trap:
        yield trap


@pytest.fixture(scope="module")
def store_settings() -> dict[str, str]:
    """Settings of the store; without any it is a folder below the data folder."""
    return {}


@pytest.fixture(scope="module")
def cluster(
    redis_of_module: RedisServer,
    trap: Trap,
    store_settings: dict[str, str],
    pico_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cluster]:
    """Two editors and a keeper, with short leases and the base model `pico`."""
    folder = tmp_path_factory.mktemp("cluster")
    settings = api_settings(
        folder,
        redis_of_module,
        lease_seconds=LEASE_SECONDS,
        ring_seconds=2,
        drain_seconds=5,
        policy=unmeasured_harm(folder),
        **store_settings,
    )
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(
            running_cluster(
                settings,
                redis_of_module,
                folder,
                editors=2,
                editor_env={"SCALPEL_REDIS_URL": trap.url},
            )
        )
        try:
            cluster.wait_for_editors()
            assert cluster.register("pico", pico_folder).status == "succeeded"
            yield cluster
        finally:
            for log in sorted(folder.glob("editor-*.log")):
                print(log.read_text())
