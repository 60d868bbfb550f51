"""The paths of the API, a file for each kind of thing."""

from __future__ import annotations

from app.routes import edit_outcomes, edits, health

ROUTERS = (edits.router, edit_outcomes.router, health.router)
"""In the order of the documentation."""
