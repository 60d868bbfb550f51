"""API keys: make, list, read, rotate, revoke."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app.domain.accounts.api_keys import (
    DEFAULT_TENANT,
    ApiKey,
    KeyState,
    KeyStatus,
    check,
    digest_of,
)
from app.domain.edits.submission import Sender
from app.http.errors import MissingScope, OperatorsOnly
from app.request.auth import Admin, Principal
from app.request.idempotency import KeyHeader, mark_created, sender
from app.request.key_cache import key_cache
from app.request.pagination import Page, PageDep, page_of
from app.request.strict_input.json_body import JsonRoute
from app.services import Store, StoreDep
from models_store import ids
from models_store.errors import Conflict, NotFound, ScalpelError

router = APIRouter(prefix="/v1/api_keys", tags=["keys"], route_class=JsonRoute)

Made = tuple[str, ApiKey]
"""A secret and its key."""
MAX_OVERLAP_SECONDS = 30 * 24 * 3600


class ApiKeyBody(BaseModel):
    """What the key may do, and for how long."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """What it is for."""
    scopes: list[str]
    """At most those of the key that makes it."""
    expires_at: int | None = None
    """Unix seconds; null: never."""
    tenant: str | None = None
    """Another tenant; for the operator only."""


class RotateBody(BaseModel):
    """How long both keys are accepted."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    overlap_seconds: Annotated[int, Field(ge=0, le=MAX_OVERLAP_SECONDS)] = 0
    """How long the old key is still accepted."""


class ApiKeyView(BaseModel):
    """A key and its status."""

    id: str
    object: Literal["api_key"] = "api_key"
    name: str
    tenant: str
    scopes: tuple[str, ...]
    status: KeyStatus
    created_at: int
    made_by: str | None
    """The key that made it; null: the command line."""
    expires_at: int | None
    """For a replaced key: until when it is accepted."""
    last_used_at: int | None
    """To the hour; null: not yet."""
    replaces: str | None
    replaced_by: str | None
    secret: str | None = None
    """The key itself; only in the response that makes it."""


def _named_tenant(
    who: Admin,
    tenant: Annotated[
        str | None, Query(max_length=64, description="Another tenant; for the operator only.")
    ] = None,
) -> str:
    return _tenant(who, tenant)


TenantDep = Annotated[str, Depends(_named_tenant)]


@router.post("", status_code=201, summary="Make an API key")
def create_api_key(
    body: ApiKeyBody,
    request: Request,
    response: Response,
    store: StoreDep,
    who: Admin,
    idempotency_key: KeyHeader = None,
) -> ApiKeyView:
    """The secret is in this response only: a repeat with the same `Idempotency-Key` returns the key
    without it."""
    tenant = _tenant(who, body.tenant)

    def make(id: str) -> Made:
        check(body.name, tenant, body.scopes, body.expires_at)
        _require_all(who, body.scopes)
        return store.keys.create(
            name=body.name,
            tenant=tenant,
            scopes=body.scopes,
            expires_at=body.expires_at,
            made_by=who.key_id,
            id=id,
        )

    state, secret = _once(make, sender(request, store, who, idempotency_key), store, tenant)
    return _made(response, state, secret)


@router.get("", summary="List API keys")
def list_api_keys(
    response: Response, store: StoreDep, who: Admin, tenant: TenantDep, page: PageDep
) -> Page[ApiKeyView]:
    """Newest first by default; includes ended keys."""
    response.headers["Cache-Control"] = "no-store"
    states = {state.key.id: state for state in store.keys.all(tenant)}
    shown, has_more = page.cut(page.ordered(states))
    return page_of([_view(states[id]) for id in shown], has_more)


@router.get("/{key_id}", summary="Read an API key")
def read_api_key(
    key_id: str, response: Response, store: StoreDep, who: Admin, tenant: TenantDep
) -> ApiKeyView:
    response.headers["Cache-Control"] = "no-store"
    return _view(store.keys.get(key_id, tenant))


@router.delete("/{key_id}", summary="Revoke an API key")
def revoke_api_key(
    key_id: str, request: Request, store: StoreDep, who: Admin, tenant: TenantDep
) -> ApiKeyView:
    """At once in this process, within 3 seconds in others."""
    state = store.keys.get(key_id, tenant)
    store.keys.revoke(state, who.key_id)
    key_cache(request).clear()
    return _view(replace(state, revoked=True))


@router.post("/{key_id}/rotate", status_code=201, summary="Rotate an API key")
def rotate_api_key(
    key_id: str,
    body: RotateBody,
    request: Request,
    response: Response,
    store: StoreDep,
    who: Admin,
    tenant: TenantDep,
    idempotency_key: KeyHeader = None,
) -> ApiKeyView:
    """The new key has the scopes and the lifetime of the old one."""
    old = store.keys.get(key_id, tenant)
    _require_all(who, old.key.scopes)

    def make(id: str) -> Made:
        return store.keys.rotate(
            old, overlap_seconds=body.overlap_seconds, made_by=who.key_id, id=id
        )

    state, secret = _once(make, sender(request, store, who, idempotency_key), store, tenant)
    key_cache(request).clear()
    return _made(response, state, secret)


def _tenant(who: Principal, named: str | None) -> str:
    """Raise `OperatorsOnly` unless it is one's own, or the operator names it."""
    if named is not None and named != who.tenant and not who.is_operator:
        raise OperatorsOnly(
            f"only a key of the tenant {DEFAULT_TENANT!r} may name another tenant; this one is of "
            f"{who.tenant!r}"
        )
    return named or who.tenant


def _require_all(who: Principal, scopes: list[str] | tuple[str, ...]) -> None:
    lacking = [scope for scope in scopes if scope not in who.scopes]
    if lacking:
        raise MissingScope(f"a key gives no more than it has, and this one lacks {lacking[0]!r}")


def _once(
    make: Callable[[str], Made], sender: Sender, store: Store, tenant: str
) -> tuple[KeyState, str | None]:
    """The key that `make` makes under a fresh id, with its secret; or the one that an earlier
    request with this idempotency key has made, without."""
    id, named = ids.new_id("api_key"), sender.key
    claimed = named.claim("api_key", id) if named is not None else id
    if claimed != id:
        try:
            return store.keys.get(claimed, tenant), None
        except NotFound:
            # Nobody but the first can make it: a second secret for one id is one too many.
            raise Conflict(
                "the first request with this Idempotency-Key is not done, or was cut short",
                code="idempotency_key_in_use",
                retry_after=2,
            ) from None
    try:
        secret, key = make(id)
    except ScalpelError:
        if named is not None:
            with contextlib.suppress(ScalpelError):
                store.objects.delete(named.path)
        raise
    return KeyState(digest_of(secret), key), secret


def _made(response: Response, state: KeyState, secret: str | None) -> ApiKeyView:
    mark_created(response, f"/v1/api_keys/{state.key.id}", replayed=secret is None)
    response.headers["Cache-Control"] = "no-store"
    return _view(state, secret)


def _view(state: KeyState, secret: str | None = None) -> ApiKeyView:
    key: ApiKey = state.key
    return ApiKeyView(
        **key.model_dump(
            include={"id", "name", "tenant", "scopes", "created_at", "made_by", "replaces"}
        ),
        status=state.status,
        expires_at=state.expires_at,
        last_used_at=state.last_used_at,
        replaced_by=state.replaced.by if state.replaced is not None else None,
        secret=secret,
    )
