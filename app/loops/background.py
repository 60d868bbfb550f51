"""The API's background tasks: the catalogue, the keeper, the courier, heads of the audit log."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Protocol

import redis
import structlog
from fastapi.concurrency import run_in_threadpool

from app.services import Services, Store
from models_store.audit.heads import Head, make_head
from models_store.errors import CorruptArtifact, ScalpelError
from models_store.live.leases import connect

_RETRY_SECONDS = 2.0
FIRST_HEAD_SECONDS = 60.0
_HEAD_SECONDS = 3600.0
_log = structlog.get_logger()


@contextlib.asynccontextmanager
async def background(
    services: Services, *, with_keeper: bool, first_head_seconds: float = FIRST_HEAD_SECONDS
) -> AsyncIterator[None]:
    """Run the tasks within this context; they begin when the store can be reached.

    Args:
        first_head_seconds: after which the head of the audit log is logged for the first time.
    """
    tasks = [
        asyncio.create_task(_fill_catalogue(services)),
        asyncio.create_task(_log_heads(services, first_head_seconds)),
    ]
    if with_keeper:
        tasks.append(asyncio.create_task(_keep(services)))
        tasks.append(asyncio.create_task(_run_courier(services)))
    try:
        yield
    finally:
        services.draining.set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _fill_catalogue(services: Services) -> None:
    """Register the base models of the settings, as soon as the store can be reached."""
    while True:
        try:
            await run_in_threadpool(services.fill_catalogue)
            return
        except ScalpelError as error:
            _log.warning("the catalogue cannot be filled yet", error=error.message)
        await asyncio.sleep(_RETRY_SECONDS)


async def _log_heads(services: Services, pause: float) -> None:
    """Log the head of the audit log soon after the start and each hour, for others to keep; before
    it, what was read again since the last time."""
    head: Head | None = None
    while True:
        await asyncio.sleep(pause)
        pause = _HEAD_SECONDS
        try:
            await run_in_threadpool(lambda: services.store.work.reads.write_counts())
            head = await run_in_threadpool(partial(_make_head, services, head))
        except CorruptArtifact as error:
            _log.error("the audit log was tampered with", error=error.message)
        except ScalpelError as error:
            _log.warning("the head of the audit log cannot be told", error=error.message)
        else:
            _log.info("audit head", head=head.hash, chains=len(head.tips))


def _make_head(services: Services, known: Head | None) -> Head:
    return make_head(services.store.objects, known)


async def _keep(services: Services) -> None:
    """Run the keeper, as soon as the store and the address of Redis are there."""
    # Imported here since it imports RQ, which nothing else in the API needs.
    from app.loops.keeper import Keeper

    store, client = await _parts(services, "the keeper")
    await _run(Keeper(store.objects, client, services.settings, store.audit), client)


async def _run_courier(services: Services) -> None:
    """Run the courier, which delivers events to webhooks."""
    from app.loops.courier import Courier

    store, client = await _parts(services, "the courier")
    courier = Courier(store.work, store.webhooks, services.outgoing, client, services.settings)
    await _run(courier, client)


async def _parts(services: Services, who: str) -> tuple[Store, redis.Redis]:
    """The store and a new Redis client, once both are available."""
    while True:
        try:
            return await run_in_threadpool(lambda: services.store), connect(services.settings)
        except ScalpelError as error:
            _log.warning(f"{who} cannot begin yet", error=error.message)
        await asyncio.sleep(_RETRY_SECONDS)


class _Loop(Protocol):
    async def run(self) -> None: ...

    def stop(self) -> None: ...


async def _run(loop: _Loop, client: redis.Redis) -> None:
    """Run a loop until this task is canceled, then let it finish."""
    running = asyncio.create_task(loop.run())
    try:
        await asyncio.shield(running)
    finally:
        loop.stop()
        await running
        client.close()
