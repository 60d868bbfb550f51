"""How errors are said over HTTP: as problem+json (RFC 9457), and under OpenAI's paths in the shape
that its clients read. No other module builds an error response.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import Scope

from app.http import rate_limits
from app.http.error_catalogue import ERRORS
from app.http.openapi import OPENAI_PATHS, PROBLEM_TYPE
from app.http.pages.login_page import login_page
from app.http.pointers import field_errors, in_words
from models_store.errors import (
    FieldError,
    InvalidRequest,
    Malformed,
    ScalpelError,
)

_log = structlog.get_logger()

_MAX_FIELD_ERRORS = 100
_HTTP_CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
}


class HttpError(ScalpelError):
    """An error that only HTTP knows."""

    def __init__(self, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.headers = dict(headers or {})


class Unauthorized(HttpError):
    code = "unauthorized"


class MissingScope(HttpError):
    code = "missing_scope"


class OperatorsOnly(HttpError):
    code = "operators_only"


class CsrfFailed(HttpError):
    code = "csrf_failed"


class BadHost(HttpError):
    code = "bad_host"


class CrossSite(HttpError):
    code = "cross_site"


class NotAcceptable(HttpError):
    code = "not_acceptable"


class UnsupportedMediaType(HttpError):
    code = "unsupported_media_type"


class RangeNotSatisfiable(HttpError):
    code = "range_not_satisfiable"


class GenerationFailed(HttpError):
    code = "generation_failed"


def install(app: FastAPI, methods_at: Callable[[str], Iterable[str]]) -> None:
    """Answer every error of `app` here; `methods_at` gives the methods of a path."""

    async def http_exception(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return _http_exception(request, error, methods_at)

    app.add_exception_handler(ScalpelError, _scalpel_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, http_exception)
    app.add_exception_handler(Exception, _unexpected)


def error_response(scope: Scope, error: ScalpelError) -> JSONResponse:
    """The response to a request that ended with `error`."""
    headers = dict(error.headers) if isinstance(error, HttpError) else {}
    retry_after = getattr(error, "retry_after", None)
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    errors: Sequence[FieldError] = error.errors if isinstance(error, InvalidRequest) else ()
    status = status_of(error)
    if _is_openai(scope) and status == 422:
        status = 400  # as OpenAI answers wrong values
    if error.code in ("model_not_found", "invalid_variant") and _is_openai(scope):
        errors = [FieldError("/model", error.code, error.message)]
    return _response(scope, status, error.code, error.message, errors, headers)


def status_of(error: ScalpelError) -> int:
    """As the catalogue has it for the error's code, or else for its class."""
    kind = ERRORS.get(error.code) or ERRORS.get(type(error).code)
    return 500 if kind is None or kind.status is None else kind.status


def openai_error(status: int, code: str, message: str, param: str | None = None) -> dict[str, Any]:
    """The body of an error as OpenAI's clients read it."""
    if status == 401:
        kind = "authentication_error"
    elif status == 403:
        kind = "permission_error"
    elif status == 429:
        kind = "rate_limit_error"
    else:
        kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def problem(
    status: int,
    code: str,
    detail: str,
    instance: str | None = None,
    request_id: str | None = None,
    errors: Sequence[FieldError] = (),
) -> dict[str, Any]:
    """The body of an error (RFC 9457); without an instance that of a request that was not read."""
    kind = ERRORS.get(code)
    return {
        "type": f"/docs/errors#{code}",
        "title": kind.title if kind is not None else "Error",
        "status": status,
        "detail": detail,
        "instance": instance,
        "code": code,
        "request_id": request_id,
        "errors": [
            {"pointer": error.pointer, "code": error.code, "detail": error.detail}
            for error in errors[:_MAX_FIELD_ERRORS]
        ],
    }


async def _scalpel_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ScalpelError)
    if isinstance(error, Unauthorized) and _is_person(request):
        return _sign_in_page(request)
    rate_limits.report(getattr(error, "use", None))
    response = error_response(request.scope, error)
    if response.status_code >= 500:
        _log.warning(
            "request failed",
            method=request.method,
            path=request.url.path,
            code=error.code,
            error=error.message,
        )
    return response


def _is_person(request: Request) -> bool:
    """Whether it is a browser that shows a page, and no key was sent."""
    accepts = request.headers.get("accept", "").lower()
    shows = request.method in ("GET", "HEAD") and "text/html" in accepts
    return shows and "authorization" not in request.headers


def _sign_in_page(request: Request) -> Response:
    query = f"?{request.url.query}" if request.url.query else ""
    response = login_page(request.url.path + query, 401)
    response.headers["WWW-Authenticate"] = "Bearer"
    return response


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    """Wrong queries and headers; bodies are validated in `app.request.strict_input.json_body`."""
    assert isinstance(error, RequestValidationError)
    problems = error.errors()
    where, *path = problems[0]["loc"]
    name = ".".join(str(part) for part in path)
    if where == "body":
        fields = field_errors(problems, error.body)
        return error_response(request.scope, InvalidRequest.of(fields))
    return error_response(
        request.scope,
        Malformed(
            f"the {where} parameter {name!r}: {in_words(problems[0]['msg'])}", code="bad_request"
        ),
    )


def _http_exception(
    request: Request, error: HTTPException, methods_at: Callable[[str], Iterable[str]]
) -> JSONResponse:
    """What the framework itself refuses: unknown paths and methods."""
    status = error.status_code
    headers = dict(error.headers or {})
    code = _HTTP_CODES.get(status, "internal_error" if status >= 500 else "bad_request")
    if status == 404:
        detail = f"there is no path {request.url.path}"
    elif status == 405:
        allowed = ", ".join(sorted(methods_at(request.url.path))) or headers.get("Allow", "")
        headers["Allow"] = allowed
        detail = f"{request.url.path} has no method {request.method}, but {allowed}"
    else:
        detail = str(error.detail)
    return _response(request.scope, status, code, detail, (), headers)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    _log.error("request broke off", method=request.method, path=request.url.path, exc_info=error)
    detail = "an unexpected error; the server's log has it under this request id"
    return _response(request.scope, 500, "internal_error", detail, (), {})


def _response(
    scope: Scope,
    status: int,
    code: str,
    detail: str,
    errors: Sequence[FieldError],
    headers: dict[str, str],
) -> JSONResponse:
    request_id = scope.get("state", {}).get("request_id")
    if request_id is not None:
        headers["X-Request-Id"] = request_id
    if _is_openai(scope):
        param = _parameter(errors[0].pointer) if errors else None
        return JSONResponse(openai_error(status, code, detail, param), status, headers)
    body = problem(status, code, detail, scope["path"], request_id, errors)
    if status == 404 and code == "not_found" and "route" not in scope and _is_v1(scope):
        # A call of OpenAI's that is not here: its clients read this part.
        body.update(openai_error(status, code, detail))
    return JSONResponse(body, status, headers, media_type=PROBLEM_TYPE)


def _is_v1(scope: Scope) -> bool:
    path: str = scope["path"]
    return path == "/v1" or path.startswith("/v1/")


def _is_openai(scope: Scope) -> bool:
    path: str = scope["path"]
    return path.startswith(OPENAI_PATHS)


def _parameter(pointer: str) -> str | None:
    """`/messages/0/content` as OpenAI writes it: `messages[0].content`."""
    name = ""
    for part in pointer.split("/")[1:]:
        name += f"[{part}]" if part.isdigit() else f".{part}" if name else part
    return name or None
