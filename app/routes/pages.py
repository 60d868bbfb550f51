"""Pages for people: where to begin, what the API has, and what each error means."""

from __future__ import annotations

import json

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse

from app.http.error_catalogue import ERRORS
from app.http.pages import api_page
from app.http.pages.html import page
from app.http.prepared import prepared
from app.request import sign_in
from app.request.auth import count_stranger
from app.services import services

router = APIRouter(include_in_schema=False, dependencies=[Depends(count_stranger)])


@router.get("/", response_class=HTMLResponse)
async def landing(request: Request) -> Response:
    """With the way in where keys are needed, or the way out."""
    keys = services(request).settings.auth == "keys"
    key = await run_in_threadpool(sign_in.signed_in, request) if keys else None
    url = str(request.base_url).rstrip("/")
    csrf_token = sign_in.csrf_token(request) if key is not None else None

    def make() -> Response:
        response = page("landing.html", url=url, keys=keys, key=key, csrf_token=csrf_token)
        response.headers["Vary"] = "Cookie"
        return response

    if key is None:
        return await prepared(request).response(request, "/", make, at=url)
    response = make()
    response.headers["Cache-Control"] = "no-store"
    return response


@router.get("/docs", response_class=HTMLResponse)
async def docs(request: Request) -> Response:
    def make() -> Response:
        document = request.app.openapi()
        return page(
            "docs.html",
            calls=api_page.calls(document),
            schemas=api_page.schemas(document),
            type_in_words=api_page.type_in_words,
            as_json=json.dumps,
        )

    return await prepared(request).response(request, "/docs", make)


@router.get("/docs/errors", response_class=HTMLResponse)
async def errors(request: Request) -> Response:
    kinds = list(ERRORS.values())

    def make() -> Response:
        return page(
            "errors.html",
            requests=[kind for kind in kinds if kind.status is not None],
            failures=[kind for kind in kinds if kind.status is None],
        )

    return await prepared(request).response(request, "/docs/errors", make)


@router.get("/openapi.json", response_class=JSONResponse)
async def description(request: Request) -> Response:
    return await prepared(request).response(
        request, "/openapi.json", lambda: JSONResponse(request.app.openapi())
    )
