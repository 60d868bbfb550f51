"""What the API does besides answering: it fills the catalogue, it keeps, and it tells webhooks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Protocol

import redis
import structlog
from fastapi.concurrency import run_in_threadpool

from app.services import Services, Store
from models_store.errors import ScalpelError
from models_store.live import connect

_RETRY_SECONDS = 2.0
_log = structlog.get_logger()


@contextlib.asynccontextmanager
async def background(services: Services, *, with_keeper: bool) -> AsyncIterator[None]:
    """All of it runs inside; it begins when the store can be reached, and ends on the way out."""
    tasks = [asyncio.create_task(_fill_catalogue(services))]
    if with_keeper:
        tasks.append(asyncio.create_task(_keep(services)))
        tasks.append(asyncio.create_task(_tell(services)))
    try:
        yield
    finally:
        services.draining.set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _fill_catalogue(services: Services) -> None:
    """Register the base models of the settings, as soon as the store allows it."""
    while True:
        try:
            await run_in_threadpool(services.fill_catalogue)
            return
        except ScalpelError as error:
            _log.warning("the catalogue cannot be filled yet", error=error.message)
        await asyncio.sleep(_RETRY_SECONDS)


async def _keep(services: Services) -> None:
    """Run the keeper, as soon as there are a store and the address of a Redis."""
    # Imported here since it brings RQ, which the rest of the API can do without.
    from app.keeper import Keeper

    store, client = await _parts(services, "the keeper")
    await _run(Keeper(store.objects, client, services.settings, store.audit), client)


async def _tell(services: Services) -> None:
    """Run the courier, which tells webhooks of events."""
    from app.webhooks import Courier

    store, client = await _parts(services, "the courier")
    courier = Courier(store.work, store.webhooks, services.outgoing, client, services.settings)
    await _run(courier, client)


async def _parts(services: Services, who: str) -> tuple[Store, redis.Redis]:
    """The store and a client of one's own, once both can be had."""
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
    """Run a loop until this task is canceled, and then to its end."""
    running = asyncio.create_task(loop.run())
    try:
        await asyncio.shield(running)
    finally:
        loop.stop()
        await running
        client.close()
