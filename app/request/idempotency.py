"""Requests that create something, which a client may repeat with an `Idempotency-Key`."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Request, Response
from pydantic import JsonValue

from app.domain.edits.idempotency import MAX_KEY_LENGTH, IdempotencyKey, Sender, digest
from app.request.auth import Principal, counted
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


class Creation:
    """A request that creates something, and its response."""

    def __init__(
        self,
        request: Request,
        response: Response,
        who: Principal,
        idempotency_key: str | None,
    ) -> None:
        self._request = request
        self._response = response
        self._who = who
        self._key = idempotency_key

    @property
    def sent(self) -> JsonValue:
        """The body as it came; None where there is none."""
        sent: JsonValue = getattr(self._request.state, "sent", None)
        return sent

    def sender(self, store: Store, *, tenant: str | None = None) -> Sender:
        """The caller, and its key."""
        tenant = tenant or self._who.tenant
        if self._key is None:
            return Sender(tenant, self._who.actor)
        route = f"{self._request.method} {self._request.url.path}"
        sha256 = digest(self.sent)
        key = IdempotencyKey(store.objects, tenant, self._key, route, sha256)
        return Sender(tenant, self._who.actor, key)

    def mark(self, location: str, *, replayed: bool) -> None:
        """Say where the created thing is, and whether it had been created before."""
        self._response.headers["Location"] = location
        if replayed:
            self._response.headers["Idempotent-Replayed"] = "true"


async def creation_of(request: Request, response: Response) -> Creation | None:
    """The same without the framework; None where the header is not in order."""
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= MAX_KEY_LENGTH:
        return None
    return Creation(request, response, await counted(request), key)


async def _creation(
    request: Request,
    response: Response,
    who: Annotated[Principal, Depends(counted)],
    idempotency_key: KeyHeader = None,
) -> Creation:
    return Creation(request, response, who, idempotency_key)


CreationDep = Annotated[Creation, Depends(_creation)]
