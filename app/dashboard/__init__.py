"""The dashboard: pages for people, over the same calls that programs use.

Pages come from templates and run modules of our own in `static/`, with Preact and htm beside them;
there is no build step, and nothing is fetched from elsewhere.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment

from app import receipts
from app.dashboard.assets import assets
from app.dashboard.differences import marked
from app.dashboard.heat import heat_strip
from models_store.cards import environment

_FOLDER = Path(__file__).parent / "templates"
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""Scripts and styles are files of this server; nothing inline runs."""


def page(name: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page of the dashboard; it is one person's, so nobody keeps it."""
    text = _environment().get_template(name).render(static=assets().base, **values)
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Cache-Control": "no-store"}
    return HTMLResponse(text, status, headers=headers)


@cache
def _environment() -> Environment:
    """With the templates of receipts, whose parts the page of an edit shows."""
    made = environment(_FOLDER, receipts.TEMPLATES)
    made.filters.update(heat_strip=heat_strip, marked=marked)
    return made
