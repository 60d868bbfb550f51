"""Who is asking: the tenant and the scopes of an API key."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPBearer

from app.domain.accounts.api_keys import ALL_SCOPES, DEFAULT_TENANT, ApiKey
from app.http import rate_limits
from app.http.browsers import SAFE_METHODS
from app.http.errors import GenerationFailed, MissingScope, OperatorsOnly, Unauthorized
from app.request import sign_in
from app.request.key_cache import key_cache
from app.services import Services, services
from models_store.errors import Unavailable
from models_store.schemas.records import Actor

T = TypeVar("T")
_ASK_SECONDS = 1.0
bearer = HTTPBearer(auto_error=False, description="An API key, sk-…")


@dataclass(frozen=True)
class Principal:
    """Whose request it is and what it may do."""

    tenant: str
    key_id: str | None
    scopes: tuple[str, ...]

    @classmethod
    def of(cls, key: ApiKey) -> Principal:
        return cls(key.tenant, key.id, key.scopes)

    @property
    def actor(self) -> Actor:
        return Actor(key_id=self.key_id, scopes=self.scopes)

    @property
    def is_operator(self) -> bool:
        """Whether it speaks for the installation, and not for a tenant of it alone."""
        return self.tenant == DEFAULT_TENANT and "admin" in self.scopes


EVERYONE = Principal(DEFAULT_TENANT, None, ALL_SCOPES)
"""The caller where no keys are needed."""


async def principal(request: Request) -> Principal:
    """Whose request it is.

    Raises:
        Unauthorized: a key is needed and there is no valid one.
        CsrfFailed: a signed-in browser changes something without its session's token.
    """
    parts = services(request)
    if parts.settings.auth == "none":
        return EVERYONE
    secret = _secret(request)
    key = None if secret is None else key_cache(request).fresh(secret)
    if key is None:
        key = await _looked_up(request, parts, secret)
    if key is None:
        raise Unauthorized(
            "send a valid API key as Authorization: Bearer sk-…",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return Principal.of(key)


async def _looked_up(request: Request, parts: Services, secret: str | None) -> ApiKey | None:
    """The caller's key. Before it is looked up, the request is counted against its address, unless
    the key was valid before; one that turns out to be valid, or cannot be looked up, is not."""
    if secret is not None and key_cache(request).knows(secret):
        return await run_in_threadpool(_key, request, parts)
    address, key = await count_stranger(request), None
    try:
        key = await run_in_threadpool(_key, request, parts)
    except Unavailable:
        parts.rates.give_back_stranger(address)
        raise
    if key is not None:
        parts.rates.give_back_stranger(address)
    return key


async def count_stranger(request: Request) -> str:
    """Count a request without a valid key against its address, which is returned.

    Raises:
        QuotaExceeded: `rate_limited`.
    """
    address = address_of(request.client.host if request.client is not None else "")
    services(request).rates.count_stranger(address)
    return address


def still_allowed(request: Request) -> Callable[[], Awaitable[bool]]:
    """Asks, once a second at most, whether the caller's key is still valid."""
    asked_at, parts = time.monotonic(), services(request)

    async def allowed() -> bool:
        nonlocal asked_at
        if parts.settings.auth == "none" or time.monotonic() < asked_at + _ASK_SECONDS:
            return True
        asked_at = time.monotonic()
        try:
            return await run_in_threadpool(_key, request, parts) is not None
        except Unavailable:
            return True  # the store is away: what was true stays

    return allowed


async def while_allowed(request: Request, items: AsyncGenerator[T]) -> AsyncGenerator[T]:
    """The items of a stream; it raises `GenerationFailed` once the caller's key is not valid."""
    allowed = still_allowed(request)
    async with aclosing(items):
        async for item in items:
            if not await allowed():
                raise GenerationFailed("the API key is no longer valid")
            yield item


def address_of(host: str) -> str:
    """What counts as one address: of IPv6 all that one customer usually has, a /64."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "other"
    if address.version == 4 or address.ipv4_mapped is not None:
        return str(getattr(address, "ipv4_mapped", None) or address)
    return str(ipaddress.ip_network((address, 64), strict=False))


def _key(request: Request, parts: Services) -> ApiKey | None:
    """The key that is sent along, or the one that the browser is signed in with."""
    if "authorization" not in request.headers:
        key = sign_in.signed_in(request)
        if key is not None and request.method not in SAFE_METHODS:
            sign_in.check_csrf(request, request.headers.get(sign_in.CSRF_HEADER))
        return key
    secret = _secret(request)
    return None if secret is None else key_cache(request).find(parts.store.keys, secret)


def _secret(request: Request) -> str | None:
    """What is sent as `Authorization: Bearer`."""
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() if kind.lower() == "bearer" else None


async def counted(request: Request) -> Principal:
    """Whose request it is, counted against what the tenant may ask.

    Raises:
        Unauthorized: a key is needed and there is no valid one.
        QuotaExceeded: `rate_limited`.
    """
    who = await principal(request)
    if not getattr(request.state, "counted", False):  # this runs more than once a request
        request.state.counted = True
        rate_limits.report(await services(request).rates.count_request(who.tenant))
    return who


def require(scope: str) -> Callable[..., Awaitable[Principal]]:
    """A dependency: the principal, who must have the scope."""

    async def check(request: Request, _documented: Annotated[object, Depends(bearer)]) -> Principal:
        return await with_scope(request, scope)

    return check


async def with_scope(request: Request, scope: str) -> Principal:
    """Whose request it is, counted; it must have the scope."""
    who = await counted(request)
    if scope not in who.scopes:
        scopes = ", ".join(who.scopes) or "none"
        raise MissingScope(f"this needs the scope {scope!r}; the key has {scopes}")
    return who


async def _operator(who: Annotated[Principal, Depends(require("admin"))]) -> Principal:
    """Raise `OperatorsOnly` for what all tenants share, unless the caller is the operator."""
    if not who.is_operator:
        raise OperatorsOnly(
            "base models are shared by all tenants: this needs an admin key of the tenant "
            f"{DEFAULT_TENANT!r}; the key is of {who.tenant!r}"
        )
    return who


READ = "edits:read"
WRITE = "edits:write"
Reader = Annotated[Principal, Depends(require(READ))]
Writer = Annotated[Principal, Depends(require(WRITE))]
Caller = Annotated[Principal, Depends(require("models:generate"))]
Admin = Annotated[Principal, Depends(require("admin"))]
Operator = Annotated[Principal, Depends(_operator)]
