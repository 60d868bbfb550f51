"""API keys: make, list, read, rotate, revoke."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field

from app.domain.accounts.api_keys import (
    DEFAULT_TENANT,
    ApiKey,
    KeyState,
    KeyStatus,
    check,
    digest_of,
)
from app.domain.bodies import RequestBody, View
from app.domain.edits.idempotency import create_once
from app.http.errors import MissingScope, OperatorsOnly
from app.request.auth import Admin, Principal
from app.request.idempotency import Creation, CreationDep
from app.request.key_cache import key_cache
from app.request.pagination import Page, PageDep, page_of
from app.request.strict_input.json_body import JsonRoute
from app.services import Store, StoreDep
from models_store.errors import NotFound

router = APIRouter(prefix="/v1/api_keys", tags=["keys"], route_class=JsonRoute)

Made = tuple[str, ApiKey]
"""A secret and its key."""
MAX_OVERLAP_SECONDS = 30 * 24 * 3600


class ApiKeyBody(RequestBody):
    """What the key may do, and for how long."""

    name: str
    """What it is for."""
    scopes: list[str]
    """At most those of the key that makes it."""
    expires_at: int | None = None
    """Unix seconds; null: never."""
    tenant: str | None = None
    """Another tenant; for the operator only."""


class RotateBody(RequestBody):
    """How long both keys are accepted."""

    overlap_seconds: Annotated[int, Field(ge=0, le=MAX_OVERLAP_SECONDS)] = 0
    """How long the old key is still accepted."""


class ApiKeyView(View):
    """A key and its status."""

    id: str
    """`key_…`; the key itself is `secret`."""
    object: Literal["api_key"] = "api_key"
    """What kind of thing this is: always the same word."""
    name: str
    """What it is for."""
    tenant: str
    """Whose edits it reaches."""
    scopes: tuple[str, ...]
    """What it may do."""
    status: KeyStatus
    """Whether it is accepted."""
    created_at: int
    """Unix seconds."""
    made_by: str | None
    """The key that made it; null: the command line."""
    expires_at: int | None
    """For a replaced key: until when it is accepted."""
    last_used_at: int | None
    """To the hour; null: not yet."""
    replaces: str | None
    """The key in whose place it was made; null: none."""
    replaced_by: str | None
    """The key that was made in its place; null: none."""
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
    store: StoreDep,
    who: Admin,
    creation: CreationDep,
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

    return _once(creation, store, tenant, make)


@router.get("", summary="List API keys")
def list_api_keys(
    store: StoreDep, who: Admin, tenant: TenantDep, page: PageDep
) -> Page[ApiKeyView]:
    """Newest first by default; includes keys that ended in the last 30 days."""
    states = {state.key.id: state for state in store.keys.all(tenant)}
    shown, has_more = page.cut(page.ordered(states))
    return page_of([_view(states[id]) for id in shown], has_more)


@router.get("/{key_id}", summary="Read an API key")
def read_api_key(key_id: str, store: StoreDep, who: Admin, tenant: TenantDep) -> ApiKeyView:
    """Without the key itself, which is shown once."""
    return _view(store.keys.get(key_id, tenant))


@router.delete("/{key_id}", summary="Revoke an API key")
def revoke_api_key(
    key_id: str, request: Request, store: StoreDep, who: Admin, tenant: TenantDep
) -> ApiKeyView:
    """At once in this process, within 3 seconds in others."""
    state = store.keys.get(key_id, tenant)
    store.keys.revoke(state, who.key_id)
    key_cache(request).clear()
    return _view(replace(state, revoked_at=time.time()))


@router.post("/{key_id}/rotate", status_code=201, summary="Rotate an API key")
def rotate_api_key(
    key_id: str,
    body: RotateBody,
    request: Request,
    store: StoreDep,
    who: Admin,
    tenant: TenantDep,
    creation: CreationDep,
) -> ApiKeyView:
    """The new key has the scopes and the lifetime of the old one."""
    old = store.keys.get(key_id, tenant)
    _require_all(who, old.key.scopes)

    def make(id: str) -> Made:
        return store.keys.rotate(
            old, overlap_seconds=body.overlap_seconds, made_by=who.key_id, id=id
        )

    rotated = _once(creation, store, tenant, make)
    key_cache(request).clear()
    return rotated


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


def _once(creation: Creation, store: Store, tenant: str, make: Callable[[str], Made]) -> ApiKeyView:
    """The key that `make` makes under an id, with its secret; or the one that an earlier request
    with this idempotency key has made, without.

    Nobody but the first can make it: a second secret for one id is one too many.
    """

    def find(id: str) -> ApiKeyView | None:
        with contextlib.suppress(NotFound):
            return _view(store.keys.get(id, tenant))
        return None

    def view(claim: Callable[[], str]) -> ApiKeyView:
        secret, key = make(claim())
        return _view(KeyState(digest_of(secret), key), secret)

    key, replayed = create_once(creation.sender(store), "api_key", find, view, resumable=False)
    creation.mark(f"/v1/api_keys/{key.id}", replayed=replayed)
    return key


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
