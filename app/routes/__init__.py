"""The paths of the API, a file for each kind of thing."""

from __future__ import annotations

from app.routes import (
    aliases,
    base_models,
    behaviors,
    edit_events,
    edit_outcomes,
    edits,
    exports,
    health,
)

ROUTERS = (
    edits.router,
    edit_events.router,
    edit_outcomes.router,
    exports.router,
    behaviors.router,
    base_models.router,
    aliases.router,
    health.router,
)
"""In the order of the documentation."""
