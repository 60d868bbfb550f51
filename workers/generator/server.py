"""The internal HTTP port of a generator: it generates, looks at texts, and tells its health."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator
from dataclasses import asdict

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from models_store.errors import (
    BaseModelUnavailable,
    CorruptArtifact,
    InvalidRequest,
    NotFound,
    ScalpelError,
    Unavailable,
)
from models_store.estimates import Estimate, EstimateRequest, ProbeRequest, ProbeScores
from models_store.generation import Finished, GenerationError, GenerationRequest
from workers.generator import examine
from workers.generator.engine import Engine, Job
from workers.generator.jobs import prepare
from workers.generator.outbox import Outbox
from workers.generator.shelf import Shelf

_STATUS: dict[type[ScalpelError], int] = {
    InvalidRequest: 400,
    NotFound: 404,
    CorruptArtifact: 500,
    BaseModelUnavailable: 503,
    Unavailable: 503,
}


class _Unauthorized(ScalpelError):
    code = "unauthorized"


def create_server(shelf: Shelf, engine: Engine, token: str) -> FastAPI:
    """The application; `token` is what callers must bear, empty when there is none."""

    def authorize(request: Request) -> None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token and not hmac.compare_digest(given.encode(), token.encode()):
            raise _Unauthorized("the internal token is missing or wrong")

    app = FastAPI(
        openapi_url=None, docs_url=None, redoc_url=None, dependencies=[Depends(authorize)]
    )

    @app.exception_handler(ScalpelError)
    async def explain(_: Request, error: ScalpelError) -> JSONResponse:
        status = 401 if isinstance(error, _Unauthorized) else _status_of(error)
        errors = error.errors if isinstance(error, InvalidRequest) else ()
        return JSONResponse(
            {
                "code": error.code,
                "message": error.message,
                "errors": [asdict(one) for one in errors],
            },
            status,
        )

    @app.get("/internal/health")
    def health() -> dict[str, object]:
        return {"status": "ok", "base_models": list(shelf.base_models), "busy": engine.busy}

    @app.post("/internal/generate")
    async def generate(body: GenerationRequest) -> StreamingResponse:
        outbox = Outbox(asyncio.get_running_loop())
        job = await run_in_threadpool(prepare, shelf, body, outbox.put)
        engine.submit(job)
        return StreamingResponse(_answer(engine, job, outbox), media_type="application/x-ndjson")

    @app.post("/internal/estimate")
    def estimate(body: EstimateRequest) -> Estimate:
        return examine.estimate(shelf, engine, body)

    @app.post("/internal/probe")
    def probe(body: ProbeRequest) -> ProbeScores:
        return examine.probe_scores(shelf, engine, body)

    return app


def _status_of(error: ScalpelError) -> int:
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)


async def _answer(engine: Engine, job: Job, outbox: Outbox) -> AsyncIterator[str]:
    """The lines of a job until all its choices are done; leaving early cancels the rest."""
    open_choices = len(job.choices)
    try:
        while open_choices:
            for line in await outbox.take():
                if isinstance(line, Finished):
                    open_choices -= 1
                yield line.model_dump_json() + "\n"
                if isinstance(line, GenerationError):
                    return
    finally:
        engine.cancel(job)
