"""The internal HTTP API of a generator: generation, estimates, probes and health."""

from __future__ import annotations

import hmac
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import asdict

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from models_store.errors import (
    BaseModelUnavailable,
    CorruptArtifact,
    InvalidRequest,
    NotFound,
    ScalpelError,
    Unavailable,
)
from models_store.schemas.estimates import Estimate, EstimateRequest, ProbeRequest, ProbeScores
from models_store.schemas.generation import GenerationRequest
from models_store.settings import is_loopback
from workers.generator.protocol import Line, TextEngine, TextReader

_STATUS: dict[type[ScalpelError], int] = {
    InvalidRequest: 400,
    NotFound: 404,
    CorruptArtifact: 500,
    BaseModelUnavailable: 503,
    Unavailable: 503,
}


class _Unauthorized(ScalpelError):
    code = "unauthorized"


def create_server(engine: TextEngine, reader: TextReader | None, token: str) -> FastAPI:
    """The application.

    Args:
        reader: None: no estimates and probes.
        token: the callers' bearer token; empty: none, and then the host must be `localhost` or a
            loopback address.
    """

    def authorize(request: Request) -> None:
        if token:
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), token.encode()):
                raise _Unauthorized("the internal token is missing or wrong")
        elif not is_loopback(request.url.hostname or ""):
            # A web page whose host name resolves to this machine would send that name.
            raise _Unauthorized(
                "without SCALPEL_INTERNAL_TOKEN a generator answers to loopback addresses only"
            )

    def reading() -> TextReader:
        if reader is None:
            raise Unavailable("this generator cannot look at texts", code="no_generator")
        return reader

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
                "errors": [asdict(item) for item in errors],
            },
            status,
        )

    @app.get("/internal/health")
    def health() -> dict[str, object]:
        return {"status": "ok", "base_models": list(engine.base_models), "busy": engine.busy}

    @app.post("/internal/generate")
    async def generate(body: GenerationRequest) -> StreamingResponse:
        lines = await engine.begin(body)
        return StreamingResponse(_ndjson(lines), media_type="application/x-ndjson")

    @app.post("/internal/estimate")
    def estimate(body: EstimateRequest) -> Estimate:
        return reading().estimate(body)

    @app.post("/internal/probe")
    def probe(body: ProbeRequest) -> ProbeScores:
        return reading().probe(body)

    return app


def _status_of(error: ScalpelError) -> int:
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)


async def _ndjson(lines: AsyncGenerator[Line]) -> AsyncIterator[str]:
    async with aclosing(lines):
        async for line in lines:
            yield line.model_dump_json() + "\n"
