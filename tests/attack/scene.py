"""The processes that are flooded: an API, a generator of `pico`, Redis and a store."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from app.services import Store
from benchmarks.serving.s3_lists import running_s3
from models_store.objects.store import open_store
from models_store.settings import Settings
from tests.app.support.worker import Worker, edit_body
from tests.attack.floods import Attack, Tenant
from tests.security.api_process import ApiProcess, api_process
from tests.support.forked import Forked
from tests.support.local import local_client
from tests.support.services import api_settings, own_environment, running_redis
from tests.system.faults.harness import as_variables

COMPLETION = {"model": "pico", "prompt": "the food was", "max_tokens": 1}
_DELTA_BYTES = 300_000
"""As of a model with some billions of parameters."""
_START_SECONDS = 120.0
_SHARED = "SCALPEL_INTERNAL_TOKEN", "SCALPEL_STORE_URL", "SCALPEL_S3_ENDPOINT"


@dataclass(frozen=True)
class Scene:
    """The API, and two of its tenants."""

    api: ApiProcess
    victim: Tenant
    attacker: Tenant


@contextlib.contextmanager
def scene(folder: Path, attack: Attack) -> Iterator[Scene]:
    with contextlib.ExitStack() as around:
        redis = around.enter_context(running_redis())
        place = {}
        if attack.put_seconds:
            place = around.enter_context(_bucket(folder, attack.put_seconds))
        known = api_settings(folder, redis, internal_token="a shared secret", **place)
        store = Store.over(open_store(known), known)
        _register(folder, store, known)
        worker = Worker(store, around.enter_context(contextlib.closing(redis.client())))
        variables = as_variables(known)
        around.enter_context(_generator(folder, variables))
        shared = {name: variables[name] for name in _SHARED if name in variables}
        settings = {**shared, "SCALPEL_AUTH": "keys", **attack.settings}
        api = around.enter_context(api_process(folder, redis.url, **settings))
        tenants = [_tenant(api, worker, name) for name in ("victim", "attacker")]
        _wait_for_a_token(api, folder, tenants[0])
        yield Scene(api, *tenants)


@contextlib.contextmanager
def _bucket(folder: Path, put_seconds: float) -> Iterator[dict[str, str]]:
    """The settings of a store in a bucket; its credentials are in the environment."""
    empty = folder / "bucket"
    empty.mkdir()
    with running_s3(empty, delay=0, put_delay=put_seconds) as own:
        keys = {name: value for name, value in own.items() if name.startswith("AWS_")}
        with mock.patch.dict(os.environ, keys):
            yield {
                "store_url": own["SCALPEL_STORE_URL"],
                "s3_endpoint": own["SCALPEL_S3_ENDPOINT"],
            }


def _register(folder: Path, store: Store, settings: Settings) -> None:
    # These import torch, which processes that attack have no use for.
    from tests.support.pico import save_pico
    from tests.workers.conftest import Bench

    Bench(store, settings).register(save_pico(folder / "pico"))


@contextlib.contextmanager
def _generator(folder: Path, variables: dict[str, str]) -> Iterator[None]:
    env = own_environment(**variables, OMP_NUM_THREADS="1", SCALPEL_THREADS="1")
    process = Forked("workers.generator", env, folder / "generator.log")
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _tenant(api: ApiProcess, worker: Worker, name: str) -> Tenant:
    token, _ = worker.store.keys.create(name=name, tenant=name)
    key = {"Authorization": f"Bearer {token}"}
    with local_client(api.url, headers=key) as http:
        edit, made = (
            str(http.post("/v1/edits", json=edit_body(seed=seed)).raise_for_status().json()["id"])
            for seed in range(2)
        )
    worker.succeed(made, delta=os.urandom(_DELTA_BYTES), tenant=name)
    return Tenant(key, edit, made)


def _wait_for_a_token(api: ApiProcess, folder: Path, tenant: Tenant) -> None:
    """The first one takes longer: the generator loads the base model."""
    limit = time.monotonic() + _START_SECONDS
    with local_client(api.url, headers=tenant.key) as http:
        while (answer := http.post("/v1/completions", json=COMPLETION)).status_code != 200:
            assert answer.status_code in (502, 503), answer.text
            logs = (folder / "generator.log").read_text
            assert time.monotonic() < limit, f"{answer.text}\n{logs()}"
            time.sleep(0.2)
