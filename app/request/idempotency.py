"""The `Idempotency-Key` of a request."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header, Request, Response

from app.domain.edits.idempotency import MAX_KEY_LENGTH, IdempotencyKey, digest
from app.domain.edits.submission import Sender
from app.request.auth import Principal
from app.services import Store

KeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=MAX_KEY_LENGTH,
        description="Makes the request safe to retry: the same key and body create one thing.",
    ),
]


def sender(
    request: Request, store: Store, who: Principal, key: str | None, *, tenant: str | None = None
) -> Sender:
    """Who sends a request that creates something; `request.state.sent` is its body."""
    tenant = tenant or who.tenant
    if key is None:
        return Sender(tenant, who.actor)
    route = f"{request.method} {request.url.path}"
    return Sender(
        tenant,
        who.actor,
        IdempotencyKey(store.objects, tenant, key, route, digest(request.state.sent)),
    )


def mark_created(response: Response, location: str, *, replayed: bool) -> None:
    """Say where the created thing is, and whether it had been created before."""
    response.status_code = 201
    response.headers["Location"] = location
    if replayed:
        response.headers["Idempotent-Replayed"] = "true"
