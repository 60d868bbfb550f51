"""A real store and a real Redis, and an editor that leaves its traces in both."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from app.loops.keeper import Keeper
from models_store import ids
from models_store.live import keys as redis_keys
from models_store.live.heartbeats import Editor, signed
from models_store.live.leases import TokenLease, attempt_lease, connect
from models_store.objects.store import open_store
from models_store.schemas.records import Claim, EditSettings, WorkRequest
from models_store.settings import Settings
from models_store.work.store import Place, Work, WorkStore
from tests.support.services import RedisServer
from workers.surgery.methods.bias import Bias

LEASE_SECONDS = 0.4


@pytest.fixture
def settings(tmp_path: Path, redis_server: RedisServer) -> Settings:
    return Settings(
        data=tmp_path,
        redis_url=redis_server.url,
        lease_seconds=LEASE_SECONDS,
        ring_seconds=0.3,
        default_base_model=False,
    )


@pytest.fixture
def client(settings: Settings) -> Iterator[redis.Redis]:
    client = connect(settings)
    yield client
    client.close()


@pytest.fixture
def store(settings: Settings) -> WorkStore:
    return WorkStore(open_store(settings))


@pytest.fixture
def keeper(store: WorkStore, client: redis.Redis, settings: Settings) -> Keeper:
    return Keeper(store.objects, client, settings)


@dataclass
class World:
    """Submits work, and does what editors do to store and Redis."""

    store: WorkStore
    client: redis.Redis

    def submit(self, tenant: str = "default", pool: str = "cpu", deadline: float = 3600) -> Place:
        request = WorkRequest(
            id=ids.new_id("edit"),
            kind="edit",
            tenant=tenant,
            deadline=int(time.time() + deadline),
            pool=pool,
            body={},
            settings=EditSettings(method=Bias()),
            base_model="pico",
        )
        self.store.submit(request)
        time.sleep(0.002)  # ids made in one millisecond are in random order
        return Place("edit", tenant, request.id)

    def editor(self, name: str = "editor-1", pool: str = "cpu") -> None:
        beat = Editor(name=name, pool=pool, host="here", pid=1, at=time.time())
        key = f"{redis_keys.EDITORS}{name}"
        self.client.set(key, signed("", key, beat.model_dump_json().encode()))

    def claim(self, place: Place, worker: str = "editor-1", *, leased: bool = True) -> Claim:
        claim = self.store.claim(place, worker)
        assert claim is not None
        assert (claim.host, claim.pid) == (socket.gethostname(), os.getpid())
        if leased:
            self.lease(place, claim).replace()
        return claim

    def lease(self, place: Place, claim: Claim, seconds: float = LEASE_SECONDS) -> TokenLease:
        return attempt_lease(self.client, place.id, claim.attempt, seconds)

    def read(self, place: Place) -> Work:
        return self.store.read(place.kind, place.tenant, place.id)

    def queue(self, pool: str = "cpu") -> list[str]:
        """Ids of the jobs in the queue, oldest first."""
        raw = self.client.lrange(f"rq:queue:{redis_keys.queue(pool)}", 0, -1)
        return [job.decode() for job in raw]  # type: ignore[union-attr]

    def answer_all(self, pool: str = "cpu") -> None:
        """Take every job out of the queue without doing anything."""
        self.client.delete(f"rq:queue:{redis_keys.queue(pool)}")


@pytest.fixture
def world(store: WorkStore, client: redis.Redis) -> World:
    return World(store, client)
