"""Floods by somebody without a key, or by one tenant, while another tenant works."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.connection import Connection
from typing import Any

import httpx

MIB = 2**20
_JSON = {"Content-Type": "application/json"}
_WORDS = ("calm", "storm", "river", "window", "paper", "stone", "music", "garden")


@dataclass(frozen=True)
class Tenant:
    """A key, and edits of one's own."""

    key: dict[str, str]
    """As a header."""
    edit: str
    """One that is queued."""
    made: str
    """One that has succeeded."""


@dataclass(frozen=True)
class Attack:
    """What one attacker does until the time is over, on so many connections."""

    name: str
    connections: int
    act: Callable[[httpx.AsyncClient, Tenant], Awaitable[int]]
    """One request; its status."""
    per_second: float | None = None
    """Requests of all connections together; None: as many as they can."""
    put_seconds: float | None = None
    """The store is a bucket where a put takes so long; None: a folder."""
    settings: dict[str, str] = field(default_factory=dict)


async def _docs(client: httpx.AsyncClient, own: Tenant) -> int:
    return (await client.get("/docs")).status_code


async def _wrong_key(client: httpx.AsyncClient, own: Tenant) -> int:
    """By bare sockets, a connection each: `httpx` itself takes too long for 500 a second."""
    host, port = client.base_url.host, client.base_url.port
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(
            f"GET /v1/edits HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n"
            f"Authorization: Bearer sk-{secrets.token_hex(16)}\r\n\r\n".encode()
        )
        return int((await reader.read()).split(maxsplit=2)[1])
    finally:
        writer.close()


async def _readiness(client: httpx.AsyncClient, own: Tenant) -> int:
    return (await client.get("/readyz?require=all")).status_code


async def _stream(client: httpx.AsyncClient, own: Tenant) -> int:
    headers = {**own.key, "Accept": "text/event-stream"}
    path = f"/v1/edits/{own.edit}/events"
    async with client.stream("GET", path, headers=headers) as answer:
        if answer.status_code == 200:
            async for _ in answer.aiter_raw():
                pass
        return answer.status_code


async def _download(client: httpx.AsyncClient, own: Tenant) -> int:
    return (await client.get(f"/v1/edits/{own.made}/delta", headers=own.key)).status_code


async def _echo(client: httpx.AsyncClient, own: Tenant) -> int:
    return await _post(client, own, "/v1/completions", _largest_echo())


async def _stop_strings(client: httpx.AsyncClient, own: Tenant) -> int:
    return await _post(client, own, "/v1/completions", _long_stop_strings())


async def _estimate(client: httpx.AsyncClient, own: Tenant) -> int:
    return await _post(client, own, "/v1/edits/estimate", _many_texts())


async def _unfinished_body(client: httpx.AsyncClient, own: Tenant) -> int:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b'"' + b"a" * MIB
            await asyncio.sleep(0.05)
        await asyncio.sleep(5)

    return await _post(client, own, "/v1/edits", body())


async def _post(
    client: httpx.AsyncClient, own: Tenant, path: str, body: bytes | AsyncIterator[bytes]
) -> int:
    """The response is read, and not held."""
    headers = {**own.key, **_JSON}
    async with client.stream("POST", path, content=body, headers=headers) as answer:
        async for _ in answer.aiter_raw():
            pass
        return answer.status_code


@cache
def _largest_echo() -> bytes:
    """24 prompts as long as the context of `pico`, with the 20 likeliest of each token: a little
    below 2^18 log-probabilities, the most that are returned."""
    prompts = [[100 + (row * token) % 200 for token in range(511)] for row in range(1, 25)]
    options = {"echo": True, "logprobs": 20, "max_tokens": 1}
    return _body({"model": "pico", "prompt": prompts, **options})


@cache
def _long_stop_strings() -> bytes:
    stop = [letter * MIB for letter in "abcd"]
    return _body({"model": "pico", "prompt": "a", "stop": stop, "max_tokens": 1})


@cache
def _many_texts() -> bytes:
    """As many texts as a behaviour has at most, so long that eight such bodies are about as many
    bytes as a tenant may send at a time."""

    def texts(side: str) -> Iterator[str]:
        for number in range(5_000):
            word = _WORDS[number % len(_WORDS)]
            yield f"{side} {number} " + f"{word} {number * 7919} " * 28

    behavior = {"name": "tone", "undesired": list(texts("bad")), "desired": list(texts("good"))}
    return _body({"base_model": "pico", "behavior": behavior})


def _body(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()


ATTACKS = (
    Attack("docs", 64, _docs),
    Attack("wrong keys", 32, _wrong_key, per_second=500),
    Attack("readiness", 64, _readiness),
    Attack("streams", 1000, _stream),
    Attack("downloads", 100, _download, put_seconds=0.05),
    Attack("echo", 4, _echo),
    Attack("stop strings", 8, _stop_strings),
    Attack("estimates", 8, _estimate),
    Attack("unfinished bodies", 200, _unfinished_body),
)


def flood(name: str, url: str, own: Tenant, seconds: float, outcome: Connection) -> None:
    """Send that it begins, attack for so long, and send how often each status was the answer."""
    (attack,) = [attack for attack in ATTACKS if attack.name == name]
    statuses: Counter[int | str] = Counter()
    outcome.send("it begins")
    asyncio.run(_flood(attack, url, own, time.monotonic() + seconds, statuses))
    outcome.send(statuses)


async def _flood(
    attack: Attack, url: str, own: Tenant, over: float, statuses: Counter[int | str]
) -> None:
    limits = httpx.Limits(max_connections=attack.connections)
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30, limits=limits) as http:

        async def one() -> None:
            while time.monotonic() < over:
                began = time.monotonic()
                try:
                    statuses[await attack.act(http, own)] += 1
                except (httpx.HTTPError, OSError) as error:
                    statuses[type(error).__name__] += 1
                if attack.per_second is not None:
                    turn = attack.connections / attack.per_second
                    await asyncio.sleep(max(0.0, began + turn - time.monotonic()))

        tasks = [asyncio.create_task(one()) for _ in range(attack.connections)]
        await asyncio.wait(tasks, timeout=over - time.monotonic())
        for task in tasks:
            task.cancel()
