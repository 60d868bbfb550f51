"""Floods by somebody without a key, or by one tenant, while another tenant works.

Each runs for some seconds against an API in a process of its own; what the other tenant's requests
took, and by how much the API grew, is the outcome.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import httpx
import numpy as np

from app.services import Store
from models_store.objects.store import open_store
from tests.app.support.worker import Worker, edit_body
from tests.security.api_process import ApiProcess, api_process
from tests.support.services import api_settings, running_redis

_SPAWNED = multiprocessing.get_context("spawn")
MIB = 2**20
P99_SECONDS = 0.25
GROWTH_BYTES = 300 * MIB
_PAUSE = 0.02
"""Between two requests of the tenant who works."""


@dataclass
class Scene:
    """The API, with an edit and a key of each of the tenants `victim` and `attacker`."""

    api: ApiProcess
    edit: str
    attackers_edit: str
    victim: dict[str, str]
    attacker: dict[str, str]


@dataclass(frozen=True)
class Attacker:
    """An edit and a key of the attacker's own."""

    edit: str
    key: dict[str, str]


@dataclass
class Outcome:
    """Of one flood."""

    name: str
    latencies: list[float]
    """Seconds of each GET of the victim."""
    wrong: Counter[int]
    """Statuses of the victim's that are not 200."""
    statuses: Counter[int | str]
    """What the attacker was answered."""
    growth: int
    """Bytes."""

    @property
    def p99(self) -> float:
        return float(np.quantile(self.latencies, 0.99))

    @property
    def holds(self) -> bool:
        return not self.wrong and self.p99 < P99_SECONDS and self.growth < GROWTH_BYTES

    def __str__(self) -> str:
        answers = ", ".join(f"{count} x {status}" for status, count in self.statuses.most_common(4))
        return (
            f"{self.name:<16} p99 of {len(self.latencies)} GETs {1000 * self.p99:4.0f} ms, growth "
            f"{self.growth / MIB:4.0f} MiB, wrong {dict(self.wrong)}; attacker: {answers}"
        )


@dataclass
class Attack:
    """What one attacker does until the time is over, on so many connections."""

    name: str
    connections: int
    act: Callable[[httpx.AsyncClient, Attacker], Awaitable[int]]
    """One request; its status."""
    per_second: float | None = None
    """Requests of all connections together; None: as many as they can."""
    settings: dict[str, str] = field(default_factory=dict)


async def _docs(client: httpx.AsyncClient, own: Attacker) -> int:
    return (await client.get("/docs")).status_code


async def _wrong_key(client: httpx.AsyncClient, own: Attacker) -> int:
    key = {"Authorization": f"Bearer sk-{secrets.token_hex(16)}"}
    return (await client.get("/v1/edits", headers=key)).status_code


async def _readiness(client: httpx.AsyncClient, own: Attacker) -> int:
    return (await client.get("/readyz?require=all")).status_code


async def _stream(client: httpx.AsyncClient, own: Attacker) -> int:
    headers = {**own.key, "Accept": "text/event-stream"}
    path = f"/v1/edits/{own.edit}/events"
    async with client.stream("GET", path, headers=headers) as answer:
        if answer.status_code == 200:
            async for _ in answer.aiter_raw():
                pass
        return answer.status_code


async def _unfinished_body(client: httpx.AsyncClient, own: Attacker) -> int:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b'"' + b"a" * MIB
            await asyncio.sleep(0.05)
        await asyncio.sleep(5)

    headers = {**own.key, "Content-Type": "application/json"}
    answer = await client.post("/v1/edits", content=body(), headers=headers)
    return answer.status_code


ATTACKS = (
    Attack("docs", 64, _docs),
    Attack("wrong keys", 32, _wrong_key, per_second=500),
    Attack("readiness", 64, _readiness),
    Attack("streams", 1000, _stream),
    Attack("unfinished bodies", 200, _unfinished_body),
)


@contextlib.contextmanager
def scene(folder: Path, **settings: str) -> Iterator[Scene]:
    with running_redis() as redis:
        known = api_settings(folder, redis, internal_token="a shared secret")
        store = Store.over(open_store(known), known)
        with contextlib.closing(redis.client()) as client:
            Worker(store, client).register("pico")
        tokens = {
            tenant: store.keys.create(name=tenant, tenant=tenant)[0]
            for tenant in ("victim", "attacker")
        }
        victim, attacker = ({"Authorization": f"Bearer {key}"} for key in tokens.values())
        own = {"SCALPEL_AUTH": "keys", "SCALPEL_INTERNAL_TOKEN": known.internal_token}
        with api_process(folder, redis.url, **own, **settings) as api:
            edits = []
            for headers in (victim, attacker):
                answer = httpx.post(
                    f"{api.url}/v1/edits",
                    json=edit_body(),
                    headers=headers,
                    trust_env=False,
                    timeout=30,
                )
                edits.append(answer.raise_for_status().json()["id"])
            yield Scene(api, *edits, victim, attacker)


def run(attack: Attack, scene: Scene, seconds: float) -> Outcome:
    """Attack for so long, from a process of its own, and work meanwhile."""
    before, grown, wrong = scene.api.memory, [0], Counter[int]()
    received, sent = _SPAWNED.Pipe(duplex=False)
    keys = (scene.attackers_edit, scene.attacker)
    attacker = _SPAWNED.Process(
        target=_attack, args=(attack.name, scene.api.url, keys, seconds, sent), daemon=True
    )
    attacker.start()
    received.recv()  # it begins
    over = time.monotonic() + seconds
    latencies = []
    with httpx.Client(
        base_url=scene.api.url, headers=scene.victim, trust_env=False, timeout=30
    ) as http:
        while time.monotonic() < over:
            started = time.monotonic()
            status = http.get(f"/v1/edits/{scene.edit}").status_code
            latencies.append(time.monotonic() - started)
            if status != 200:
                wrong[status] += 1
            grown.append(scene.api.memory - before)
            time.sleep(_PAUSE)
    statuses = received.recv()
    attacker.join()
    return Outcome(attack.name, latencies, wrong, statuses, max(grown))


def _attack(
    name: str, url: str, own: tuple[str, dict[str, str]], seconds: float, outcome: Connection
) -> None:
    (attack,) = [attack for attack in ATTACKS if attack.name == name]
    statuses: Counter[int | str] = Counter()
    outcome.send("it begins")
    asyncio.run(_flood(attack, url, Attacker(*own), time.monotonic() + seconds, statuses))
    outcome.send(statuses)


async def _flood(
    attack: Attack, url: str, own: Attacker, over: float, statuses: Counter[int | str]
) -> None:
    limits = httpx.Limits(max_connections=attack.connections)
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30, limits=limits) as http:

        async def one() -> None:
            while time.monotonic() < over:
                began = time.monotonic()
                try:
                    statuses[await attack.act(http, own)] += 1
                except httpx.HTTPError as error:
                    statuses[type(error).__name__] += 1
                if attack.per_second is not None:
                    turn = attack.connections / attack.per_second
                    await asyncio.sleep(max(0.0, began + turn - time.monotonic()))

        tasks = [asyncio.create_task(one()) for _ in range(attack.connections)]
        await asyncio.wait(tasks, timeout=over - time.monotonic())
        for task in tasks:
            task.cancel()
