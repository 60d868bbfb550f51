"""What the API does besides answering: it fills the catalogue, it
keeps, and it tells heads of the audit log."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog
from fastapi.concurrency import run_in_threadpool

from app.services import Services
from models_store.audit_heads import make_head
from models_store.errors import CorruptArtifact, ScalpelError
from models_store.live import connect

_RETRY_SECONDS = 2.0
_FIRST_HEAD_SECONDS = 60.0
_HEAD_SECONDS = 3600.0
_log = structlog.get_logger()


@contextlib.asynccontextmanager
async def background(services: Services, *, with_keeper: bool) -> AsyncIterator[None]:
    """All run inside; they begin when the store can be reached, and end on the way out."""
    tasks = [
        asyncio.create_task(_fill_catalogue(services)),
        asyncio.create_task(_tell_heads(services)),
    ]
    if with_keeper:
        tasks.append(asyncio.create_task(_keep(services)))
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


async def _tell_heads(services: Services) -> None:
    """Log the head of the audit log soon after the start and each hour, for others to keep."""
    pause = _FIRST_HEAD_SECONDS
    while True:
        await asyncio.sleep(pause)
        pause = _HEAD_SECONDS
        try:
            head = await run_in_threadpool(lambda: make_head(services.store.objects))
        except CorruptArtifact as error:
            _log.error("the audit log was tampered with", error=error.message)
        except ScalpelError as error:
            _log.warning("the head of the audit log cannot be told", error=error.message)
        else:
            _log.info("audit head", head=head.hash, lines=head.lines, chains=len(head.tips))


async def _keep(services: Services) -> None:
    """Run the keeper, as soon as there are a store and the address of a Redis."""
    # Imported here since it brings RQ, which the rest of the API can do without.
    from app.keeper import Keeper

    while True:
        try:
            store = await run_in_threadpool(lambda: services.store)
            client = connect(services.settings)
            break
        except ScalpelError as error:
            _log.warning("the keeper cannot begin yet", error=error.message)
        await asyncio.sleep(_RETRY_SECONDS)
    keeper = Keeper(store.objects, client, services.settings, store.audit)
    running = asyncio.create_task(keeper.run())
    try:
        await asyncio.shield(running)
    finally:
        keeper.stop()
        await running
        client.close()
