"""Is it alive, and what could it do right now."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from importlib import metadata
from typing import Literal

import structlog
from fastapi import APIRouter, Request, Response

from app.domain.bodies import View
from app.services import Services
from models_store.errors import InvalidRequest, NewerRecord, Unavailable

router = APIRouter(tags=["health"])
_log = structlog.get_logger()


class Alive(View):
    status: Literal["ok"] = "ok"
    """Always `ok`: the process answers."""


class Version(View):
    version: str
    """Of Scalpel."""


class Part(View):
    status: Literal["ok", "missing"]
    """Whether it answers."""
    count: int | None = None
    """How many there are, where there may be several."""
    detail: str | None = None
    """What is wrong; null: nothing."""


class Parts(View):
    store: Part
    """Records and files."""
    redis: Part
    """Queue and progress."""
    keeper: Part
    """What schedules the work."""
    editors: Part
    """What makes edits."""
    generators: Part
    """What serves variants."""


class BaseModelCounts(View):
    ready: int
    """Base models that can be used."""
    preparing: int
    """Those that are still being registered."""
    failed: int
    """Those whose registration failed."""


class Readiness(View):
    status: Literal["ready", "degraded"]
    """Ready: an edit and a completion would be served."""
    parts: Parts
    """Each with its status."""
    base_models: BaseModelCounts | None
    """Null while the store is away."""


@router.get("/healthz", summary="Liveness")
async def healthz() -> Alive:
    """200 as long as the process answers; it looks at nothing else."""
    return Alive()


@router.get("/version", summary="Version")
async def version() -> Version:
    """That of the software that answers."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return Version(version=metadata.version("scalpel-edit"))
    return Version(version="not installed")


@router.get(
    "/readyz",
    summary="Readiness",
    responses={503: {"model": Readiness, "description": "Not ready"}},
)
def readyz(
    request: Request, response: Response, require: Literal["store", "all"] = "store"
) -> Readiness:
    """200 while the store can be reached; with `require=all`, only while an edit and a completion
    would be served. As it was a second ago at most."""
    cache: ReadinessCache = request.app.state.readiness
    readiness = cache.read()
    wanted = readiness.status if require == "all" else readiness.parts.store.status
    if wanted not in ("ready", "ok"):
        response.status_code = 503
        response.headers["Retry-After"] = "2"
    return readiness


class ReadinessCache:
    """What `/readyz` shows, looked at once a second however often it is asked for."""

    def __init__(self, services: Services, seconds: float = 1.0) -> None:
        self.seconds = seconds
        self._services = services
        self._read_at = -math.inf
        self._seen: Readiness | None = None
        self._lock = threading.Lock()

    def read(self) -> Readiness:
        with self._lock:
            if self._seen is None or time.monotonic() >= self._read_at + self.seconds:
                self._seen = _readiness(self._services)
                self._read_at = time.monotonic()
            return self._seen


def _readiness(services: Services) -> Readiness:
    live = services.live
    up = live.is_up()
    editors = live.editors() if up else None
    generators = live.generators() if up else None
    counts: BaseModelCounts | None = None
    try:
        services.store.objects.check()
        counts = _base_models(services)
        stored = Part(status="ok")
    except (Unavailable, InvalidRequest, NewerRecord) as error:
        # Strangers may read this, and the message may name folders of this machine.
        _log.warning("not ready: the store", error=error.message)
        stored = Part(status="missing", detail="it cannot be used; the API's log says why")
    parts = Parts(
        store=stored,
        redis=Part(status="ok") if up else _missing("queued edits wait until it is back"),
        keeper=Part(status="ok") if up and live.has_keeper() else _missing("nobody enqueues work"),
        editors=_counted(len(editors or ()), "queued edits wait for one"),
        generators=_counted(len(generators or ()), "there are no completions without one"),
    )
    ready = (
        all(part.status == "ok" for _, part in parts)
        and services.catalogue_filled
        and counts is not None
        and counts.preparing == 0
    )
    return Readiness(status="ready" if ready else "degraded", parts=parts, base_models=counts)


def _missing(detail: str) -> Part:
    return Part(status="missing", detail=detail)


def _counted(count: int, without: str) -> Part:
    return Part(status="ok" if count else "missing", count=count, detail=None if count else without)


def _base_models(services: Services) -> BaseModelCounts:
    statuses = [base.status for base in services.store.bases.all()]
    preparing = sum(status in ("queued", "running") for status in statuses)
    ready = statuses.count("succeeded")
    return BaseModelCounts(
        ready=ready, preparing=preparing, failed=len(statuses) - ready - preparing
    )
