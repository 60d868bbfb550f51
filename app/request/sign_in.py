"""Browsers that are signed in: a cookie in place of a key, and a token in place of trust.

A browser sends a cookie along with whatever asks for it to be sent, so a request that changes
something needs a token too, which only our own pages have.
"""

from __future__ import annotations

import hashlib
import hmac

from fastapi import Request, Response

from app.domain.accounts.api_keys import ApiKey
from app.domain.accounts.sessions import SESSION_SECONDS
from app.http.errors import CsrfFailed
from app.request.key_cache import key_cache
from app.services import services

CSRF_HEADER = "X-CSRF-Token"
CSRF_FIELD = "csrf_token"
_NAME = "scalpel_session"
_MAX_LENGTH = 100


def signed_in(request: Request) -> ApiKey | None:
    """The key that the request's browser is signed in with, while it is accepted.

    Raises:
        Unavailable: the store is away.
    """
    cookie = _cookie(request)
    if cookie is None:
        return None
    store = services(request).store
    session = store.sessions.find(cookie)
    if session is None:
        return None
    return key_cache(request).find_digest(store.keys, session.key_sha256)


def csrf_token(request: Request) -> str:
    """What our pages send along; it reveals nothing of the cookie that it is derived from."""
    return hmac.new((_cookie(request) or "").encode(), b"csrf", hashlib.sha256).hexdigest()


def check_csrf(request: Request, given: str | None) -> None:
    """Raise `CsrfFailed` unless `given` is the token of the request's session."""
    if not hmac.compare_digest((given or "").encode(), csrf_token(request).encode()):
        raise CsrfFailed(
            f"a signed-in browser sends its session's token as {CSRF_HEADER}; programs send a key "
            "as Authorization: Bearer sk-…"
        )


def begin(request: Request, response: Response, key: ApiKey, key_sha256: str) -> None:
    """Sign the browser in."""
    secure = request.url.scheme == "https"
    response.set_cookie(
        _name(request),
        services(request).store.sessions.begin(key, key_sha256),
        max_age=SESSION_SECONDS,
        secure=secure,
        httponly=True,
        samesite="strict",
    )


def end(request: Request, response: Response, key: ApiKey | None) -> None:
    """Sign the browser out, at once and everywhere; `key` is what it is signed in with."""
    cookie = _cookie(request)
    if cookie is not None:
        services(request).store.sessions.end(cookie, key)
    secure = request.url.scheme == "https"
    response.delete_cookie(_name(request), secure=secure, httponly=True, samesite="strict")


def _cookie(request: Request) -> str | None:
    cookie = request.cookies.get(_name(request), "")
    return cookie if 0 < len(cookie) <= _MAX_LENGTH else None


def _name(request: Request) -> str:
    """Over https with the prefix that keeps sites of the same domain from setting it."""
    return f"__Host-{_NAME}" if request.url.scheme == "https" else _NAME
