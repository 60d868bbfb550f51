"""Protection of browsers from the pages of other sites.

A web page can send requests to this machine's addresses, and can have its own name resolved to
them; so the host and the page's origin are checked.
"""

from __future__ import annotations

import re
from functools import lru_cache

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.errors import BadHost, CrossSite, HttpError, error_response
from models_store.settings import Settings, is_loopback

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
EXPOSED_HEADERS = (
    "ETag",
    "Idempotent-Replayed",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "Scalpel-Variant",
    "X-Request-Id",
)
"""That pages of the origins in `SCALPEL_CORS_ORIGINS` may read, besides the usual ones."""
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")
_HEADERS = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    # Not `no-referrer`, with which a browser sends `Origin: null` from our own forms too.
    (b"referrer-policy", b"same-origin"),
)
_UNSTORED = (*_HEADERS, (b"cache-control", b"no-store"))
_HOSTS_REMEMBERED = 1_000
_LONGEST_HOST = 300
"""Longer than any name and its port."""


class BrowserMiddleware:
    """Checks the Host header, refuses what other sites' pages send, and lets browsers show a
    response and no more.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._hosts = settings.hosts
        self._origins = frozenset(settings.origins)
        self._keys_needed = settings.auth == "keys"
        self._is_known = lru_cache(_HOSTS_REMEMBERED)(self._is_name_of_ours)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = message["headers"]
                there = {name for name, _ in sent}
                ours = _UNSTORED if scope["path"].startswith("/v1/") else _HEADERS
                message["headers"] = [*sent, *(one for one in ours if one[0] not in there)]
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await error_response(scope, refusal)(scope, receive, guarded)
            return
        await self.app(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> HttpError | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_ours(host):
            return BadHost(
                f"this server is not called {host[:100]!r}: use one of its names, or have its "
                "operator add this one to SCALPEL_ALLOWED_HOSTS"
            )
        if scope["method"] in SAFE_METHODS or (self._keys_needed and "authorization" in headers):
            return None  # nothing is changed; or a key is shown, which no page of others has
        if self._is_cross_site(headers, host):
            return CrossSite(
                "a page of another site sent this: send it from a page of this server, from a "
                "program, or have its operator add the site to SCALPEL_CORS_ORIGINS"
            )
        return None

    def _is_ours(self, host: str) -> bool:
        return self._hosts is None or (len(host) <= _LONGEST_HOST and self._is_known(host))

    def _is_name_of_ours(self, host: str) -> bool:
        match = _HOST.fullmatch(host.lower())
        if match is None:
            return False
        name = match["name"].strip("[]").removesuffix(".")
        return is_loopback(name) or name in (self._hosts or ())

    def _is_cross_site(self, headers: Headers, host: str) -> bool:
        origin = headers.get("origin")
        if origin is not None and origin in self._origins:
            return False
        site = headers.get("sec-fetch-site")
        if site is not None:
            return site not in ("same-origin", "none")
        return origin is not None and origin.partition("://")[2].lower() != host.lower()
