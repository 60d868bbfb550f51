"""The HTTP application."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from fastapi import Depends, FastAPI
from starlette.middleware.cors import CORSMiddleware

from app.http import errors
from app.http.browsers import EXPOSED_HEADERS, BrowserMiddleware
from app.http.middleware import HeadMiddleware, RequestMiddleware
from app.http.openapi import DocumentedApp
from app.http.prepared import Prepared
from app.loops.background import background
from app.request.key_cache import KeyCache
from app.request.strict_input.query import check_query
from app.routes import OPENAI_ROUTERS, ROUTERS, methods_at
from app.routes.edits.reader import EditReader
from app.routes.health import ReadinessCache
from app.services import Services, catalogue
from models_store.operator.policy import read_policy
from models_store.operator.scorers import read_scorers
from models_store.operator.suites import configured_suites
from models_store.settings import Settings

_DESCRIPTION = """\
Name a base model and a behaviour; get back a small weight edit, a receipt that says what it does
and what it costs, and an endpoint that serves the edited model.
"""


def create_app(settings: Settings | None = None, *, with_keeper: bool = True) -> FastAPI:
    """The application over the store and the Redis of `settings`.

    Args:
        with_keeper: run the keeper, which sees to it that queued work is done.

    Raises:
        InvalidRequest: the operator's list of base models, that of suites, or the policy is wrong.
    """
    settings = settings or Settings()
    catalogue(settings)
    configured_suites(settings)
    read_scorers(settings.scorers)
    read_policy(settings)
    services = Services(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with background(services, with_keeper=with_keeper):
            yield
        app.state.edit_reader.close()
        await services.close()

    app = DocumentedApp(
        with_keys=settings.auth == "keys",
        title="Scalpel",
        version="1",
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # a page of our own; the framework's loads its parts from elsewhere
        openapi_url=None,  # made once, in `app.routes.pages`
        redoc_url=None,
        separate_input_output_schemas=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.services = services
    app.state.keys = KeyCache()
    app.state.prepared = Prepared()
    app.state.readiness = ReadinessCache(services)
    app.state.edit_reader = EditReader(services)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
        )
    app.add_middleware(HeadMiddleware, methods_at=methods_at)
    app.add_middleware(BrowserMiddleware, settings=settings)
    app.add_middleware(RequestMiddleware, settings=settings)
    errors.install(app, methods_at)
    for router in ROUTERS:
        lax = router in OPENAI_ROUTERS
        app.include_router(router, dependencies=() if lax else (Depends(check_query),))
    return app
