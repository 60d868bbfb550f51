"""Pages from templates, and what a browser may do with what comes of them."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from fastapi.responses import HTMLResponse

_FOLDER = Path(__file__).parent


def page(name: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page in our style: it runs nothing, loads nothing, and sends its forms here alone."""
    from markupsafe import Markup

    style = _style()
    text = _templates().get_template(name).render(style=Markup(style), **values)  # noqa: S704
    policy = (
        f"default-src 'none'; style-src '{style_hash(style)}'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    )
    return HTMLResponse(text, status, headers={"Content-Security-Policy": policy})


def style_hash(style: str) -> str:
    """The source expression (CSP) that lets a `<style>` with just that text in."""
    return f"sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}"


@cache
def _style() -> str:
    return (_FOLDER / "style.css").read_text(encoding="utf-8")


@cache
def _templates() -> Any:
    from jinja2 import Environment, FileSystemLoader

    return Environment(loader=FileSystemLoader(_FOLDER), autoescape=True)
