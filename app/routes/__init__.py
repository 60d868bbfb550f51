"""The paths of the API, a file for each kind of thing."""

from __future__ import annotations

from fastapi.routing import APIRoute

from app.routes import (
    aliases,
    base_models,
    canaries,
    dashboard,
    exports,
    health,
    imports,
    pages,
    webhooks,
)
from app.routes.accounts import api_keys, sign_in
from app.routes.behaviors import behaviors, drafts
from app.routes.edits import edits, estimate, receipts, reproduce
from app.routes.edits import events as edit_events
from app.routes.edits import outcomes as edit_outcomes
from app.routes.fine_tuning import files, jobs
from app.routes.serving import compare, completions, models

ROUTERS = (
    estimate.router,
    edits.router,
    edit_events.router,
    edit_outcomes.router,
    compare.edit_router,
    reproduce.router,
    receipts.router,
    imports.router,
    exports.router,
    canaries.router,
    behaviors.router,
    drafts.router,
    base_models.router,
    aliases.router,
    webhooks.router,
    models.router,
    completions.router,
    compare.router,
    files.router,
    jobs.router,
    api_keys.router,
    health.router,
    pages.router,
    dashboard.router,
    dashboard.files_router,
    sign_in.router,
)
"""In the order of the documentation."""

OPENAI_ROUTERS = (models.router, completions.router, files.router, jobs.router)


def methods_at(path: str) -> set[str]:
    """Every method that a path has; one that is there word for word is no thing's id."""
    fitting = [
        route
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute) and route.path_regex.match(path)
    ]
    exact = [route for route in fitting if route.path == path]
    return {method for route in exact or fitting for method in route.methods or ()}
