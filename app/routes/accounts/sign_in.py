"""Signing in and out with a browser."""

from __future__ import annotations

from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from app.domain.accounts.api_keys import digest_of
from app.http.pages.login_page import local_path, login_page
from app.request import sign_in
from app.request.auth import count_stranger
from app.request.key_cache import key_cache
from app.request.strict_input.json_body import require_type
from app.services import services
from models_store.errors import TooLarge

router = APIRouter(include_in_schema=False, dependencies=[Depends(count_stranger)])

_MAX_FORM_BYTES = 8192


@router.get("/login")
def show_login(request: Request, next: str = "/") -> Response:
    if services(request).settings.auth == "none":
        return RedirectResponse(local_path(next), 303)
    return login_page(next)


@router.post("/login")
async def log_in(request: Request) -> Response:
    form = await _form(request)
    return await run_in_threadpool(_log_in, request, form)


@router.post("/logout")
async def log_out(request: Request) -> Response:
    form = await _form(request)
    return await run_in_threadpool(_log_out, request, form)


def _log_in(request: Request, form: dict[str, str]) -> Response:
    next, digest = form.get("next", "/"), digest_of(form.get("key", "").strip())
    store = services(request).store
    key = key_cache(request).find_digest(store.keys, digest)
    if key is None:
        return login_page(next, 401, failed=True)
    response = RedirectResponse(local_path(next), 303)
    response.headers["Cache-Control"] = "no-store"
    sign_in.begin(request, response, key, digest)
    return response


def _log_out(request: Request, form: dict[str, str]) -> Response:
    response = RedirectResponse("/login", 303)
    key = sign_in.signed_in(request)
    if key is not None:
        sign_in.check_csrf(request, form.get(sign_in.CSRF_FIELD))
    sign_in.end(request, response, key)
    return response


async def _form(request: Request) -> dict[str, str]:
    require_type(request, "x-www-form-urlencoded")
    data = b""
    async for piece in request.stream():
        data += piece
        if len(data) > _MAX_FORM_BYTES:
            raise TooLarge(f"this form has at most {_MAX_FORM_BYTES} bytes")
    fields = parse_qs(data.decode("utf-8", "replace"), max_num_fields=10)
    return {name: values[0] for name, values in fields.items()}
