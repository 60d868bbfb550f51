"""The paths of the API, a file for each kind of thing."""

from __future__ import annotations

from fastapi.routing import APIRoute

from app.routes import (
    aliases,
    api_keys,
    base_models,
    behaviors,
    compare,
    completions,
    drafts,
    edit_events,
    edit_outcomes,
    edits,
    estimate,
    exports,
    health,
    live_compare,
    models,
    pages,
    reproduce,
    sign_in,
    webhooks,
)

ROUTERS = (
    estimate.router,
    edits.router,
    edit_events.router,
    edit_outcomes.router,
    compare.router,
    reproduce.router,
    exports.router,
    behaviors.router,
    drafts.router,
    base_models.router,
    aliases.router,
    webhooks.router,
    models.router,
    completions.router,
    live_compare.router,
    api_keys.router,
    health.router,
    pages.router,
    sign_in.router,
)
"""In the order of the documentation."""

OPENAI_ROUTERS = (models.router, completions.router)


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
