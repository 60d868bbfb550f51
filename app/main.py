"""The HTTP application."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool

from app import errors
from app.auth import KeyCache
from app.middleware import RequestMiddleware
from app.routes import ROUTERS
from app.services import Services, catalogue
from models_store.errors import ScalpelError
from models_store.settings import Settings

log = logging.getLogger(__name__)

_RETRY_SECONDS = 2.0
_DESCRIPTION = """\
Name a base model and a behaviour; get back a small weight edit, a receipt that says what it does
and what it costs, and an endpoint that serves the edited model.
"""


def create_app(settings: Settings | None = None, *, with_keeper: bool = True) -> FastAPI:
    """The application over the store and the Redis of `settings`.

    Args:
        with_keeper: run the keeper, which sees to it that queued work is done.

    Raises:
        InvalidRequest: the operator's list of base models is wrong.
    """
    settings = settings or Settings()
    catalogue(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        services: Services = app.state.services
        filling = asyncio.create_task(_fill_catalogue(services))
        try:
            with _keeper(settings) if with_keeper else contextlib.nullcontext():
                yield
        finally:
            services.draining.set()
            filling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await filling
            services.close()

    app = FastAPI(
        title="Scalpel",
        version="1",
        description=_DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        separate_input_output_schemas=False,
    )
    app.state.services = Services(settings)
    app.state.keys = KeyCache()
    app.add_middleware(RequestMiddleware, max_body_bytes=settings.max_body_bytes)
    errors.install(app)
    for router in ROUTERS:
        app.include_router(router)
    return app


async def _fill_catalogue(services: Services) -> None:
    """Register the base models of the settings, as soon as the store allows it."""
    while True:
        try:
            await run_in_threadpool(services.fill_catalogue)
            return
        except ScalpelError as error:
            log.warning("the catalogue cannot be filled yet: %s", error)
            await asyncio.sleep(_RETRY_SECONDS)


def _keeper(settings: Settings) -> contextlib.AbstractContextManager[object]:
    from app.keeper import Keeper

    return Keeper(settings)
