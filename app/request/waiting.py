"""Waiting for work to end, by looking at the store: it works without Redis too."""

from __future__ import annotations

import asyncio
import time

from fastapi.concurrency import run_in_threadpool

from app.services import Services
from models_store.schemas.records import Kind
from models_store.work.store import Place, Work, WorkStore

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 0.5


async def wait_until_ended(
    services: Services, kind: Kind, tenant: str, id: str, seconds: float
) -> Work:
    """The work at its end, or as it is after so many seconds, or when the server is to stop.

    Raises:
        NotFound: there is no such work, or it was deleted meanwhile.
        QuotaExceeded: `rate_limited`, too many of the tenant's requests wait.
    """
    store = await run_in_threadpool(lambda: services.store)
    work = await run_in_threadpool(store.work.read, kind, tenant, id)
    if work.result is not None or not seconds:
        return work
    with services.in_flight.hold(tenant, "waits"):
        return await _wait(services, store.work, work, seconds)


async def _wait(services: Services, store: WorkStore, work: Work, seconds: float) -> Work:
    kind, tenant, id = work.request.kind, work.request.tenant, work.id
    deadline = time.monotonic() + seconds
    pause = FIRST_PAUSE_SECONDS
    path = f"{Place(kind, tenant, id).folder}/result.json"
    while work.result is None and not services.draining.is_set():
        left = deadline - time.monotonic()
        if left <= 0:
            # What may have changed short of the end, such as queued to running.
            return await run_in_threadpool(store.read, kind, tenant, id)
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)
        if await run_in_threadpool(store.objects.info, path) is not None:
            work = await run_in_threadpool(store.read, kind, tenant, id)
    return work
