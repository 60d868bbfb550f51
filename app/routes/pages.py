"""Pages for people: where to begin, what the API has, and what each error means."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app import api_page
from app.error_catalogue import ERRORS

router = APIRouter(include_in_schema=False)

_FOLDER = Path(__file__).parent.parent / "pages"


@router.get("/", response_class=HTMLResponse)
def landing(request: Request) -> HTMLResponse:
    return _page("landing.html", url=str(request.base_url).rstrip("/"))


@router.get("/docs", response_class=HTMLResponse)
def docs(request: Request) -> HTMLResponse:
    document = request.app.openapi()
    described = api_page.schemas(document)
    return _page(
        "docs.html",
        calls=api_page.calls(document),
        schemas=described,
        names={schema.name for schema in described},
    )


@router.get("/docs/errors", response_class=HTMLResponse)
def errors() -> HTMLResponse:
    kinds = list(ERRORS.values())
    return _page(
        "errors.html",
        answers=[kind for kind in kinds if kind.status is not None],
        failures=[kind for kind in kinds if kind.status is None],
    )


def _page(name: str, **values: Any) -> HTMLResponse:
    style = (_FOLDER / "style.css").read_text(encoding="utf-8")
    return HTMLResponse(_templates().get_template(name).render(style=style, **values))


@cache
def _templates() -> Any:
    from jinja2 import Environment, FileSystemLoader

    return Environment(loader=FileSystemLoader(_FOLDER), autoescape=True)
