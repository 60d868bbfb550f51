"""Pages for people: where to begin, what the API has, and what each error means."""

from __future__ import annotations

import json

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app.http.error_catalogue import ERRORS
from app.http.pages import api_page
from app.http.pages.html import page
from app.request import sign_in
from app.services import services

router = APIRouter(include_in_schema=False)


@router.get("/", response_class=HTMLResponse)
def landing(request: Request) -> HTMLResponse:
    """With the way in where keys are needed, or the way out."""
    keys = services(request).settings.auth == "keys"
    key = sign_in.signed_in(request) if keys else None
    response = page(
        "landing.html",
        url=str(request.base_url).rstrip("/"),
        keys=keys,
        key=key,
        csrf_token=sign_in.csrf_token(request) if key is not None else None,
    )
    response.headers["Vary"] = "Cookie"
    if key is not None:
        response.headers["Cache-Control"] = "no-store"
    return response


@router.get("/docs", response_class=HTMLResponse)
def docs(request: Request) -> HTMLResponse:
    document = request.app.openapi()
    return page(
        "docs.html",
        calls=api_page.calls(document),
        schemas=api_page.schemas(document),
        type_in_words=api_page.type_in_words,
        as_json=json.dumps,
    )


@router.get("/docs/errors", response_class=HTMLResponse)
def errors() -> HTMLResponse:
    kinds = list(ERRORS.values())
    return page(
        "errors.html",
        answers=[kind for kind in kinds if kind.status is not None],
        failures=[kind for kind in kinds if kind.status is None],
    )
