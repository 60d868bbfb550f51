"""Who is asking: the tenant and the scopes of an API key."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from app import standings
from app.errors import MissingScope, Unauthorized
from app.services import Services, services
from models_store.api_keys import ALL_SCOPES, DEFAULT_TENANT, ApiKey, ApiKeys
from models_store.records import Actor

_REMEMBERED_SECONDS = 3.0
_CAPACITY = 10_000

bearer = HTTPBearer(auto_error=False, description="An API key, sk-…")


@dataclass(frozen=True)
class Principal:
    """Whose request it is and what it may do."""

    tenant: str
    key_id: str | None
    scopes: tuple[str, ...]

    @property
    def actor(self) -> Actor:
        return Actor(key_id=self.key_id, scopes=self.scopes)


EVERYONE = Principal(DEFAULT_TENANT, None, ALL_SCOPES)
"""Who asks where no keys are needed."""


class KeyCache:
    """Keys as they were a few seconds ago at most, so that a revocation takes effect soon."""

    def __init__(self, seconds: float = _REMEMBERED_SECONDS) -> None:
        self._seconds = seconds
        self._known: OrderedDict[str, tuple[float, ApiKey | None]] = OrderedDict()
        self._lock = Lock()

    def find(self, keys: ApiKeys, secret: str) -> ApiKey | None:
        now = time.monotonic()
        with self._lock:
            read_at, key = self._known.get(secret, (-self._seconds, None))
        if now < read_at + self._seconds:
            return key
        key = keys.find(secret)
        with self._lock:
            self._known[secret] = (now, key)
            self._known.move_to_end(secret)
            while len(self._known) > _CAPACITY:
                self._known.popitem(last=False)
        return key


def principal(request: Request) -> Principal:
    """Whose request it is.

    Raises:
        Unauthorized: a key is needed and there is no valid one.
    """
    found = services(request)
    if found.settings.auth == "none":
        return EVERYONE
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    key = _key(request, found, secret.strip()) if kind.lower() == "bearer" else None
    if key is None:
        raise Unauthorized(
            "send a valid API key as Authorization: Bearer sk-…",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return Principal(key.tenant, key.id, key.scopes)


def _key(request: Request, found: Services, secret: str) -> ApiKey | None:
    cache = request.app.state.keys
    assert isinstance(cache, KeyCache)
    return cache.find(found.store.keys, secret)


def counted(request: Request) -> Principal:
    """Whose request it is, counted against what the tenant may ask.

    Raises:
        Unauthorized: a key is needed and there is no valid one.
        QuotaExceeded: `rate_limited`.
    """
    who = principal(request)
    if not getattr(request.state, "counted", False):  # this is asked more than once a request
        request.state.counted = True
        standings.tell(services(request).rates.count_request(who.tenant))
    return who


def require(scope: str) -> Callable[..., Principal]:
    """A dependency: the principal, who must have the scope."""

    def check(
        who: Annotated[Principal, Depends(counted)],
        _documented: Annotated[object, Depends(bearer)],
    ) -> Principal:
        if scope not in who.scopes:
            raise MissingScope(f"this needs the scope {scope!r}; the key has {_list(who.scopes)}")
        return who

    return check


def _list(scopes: tuple[str, ...]) -> str:
    return ", ".join(scopes) or "none"


Reader = Annotated[Principal, Depends(require("edits:read"))]
Writer = Annotated[Principal, Depends(require("edits:write"))]
Caller = Annotated[Principal, Depends(require("models:generate"))]
Admin = Annotated[Principal, Depends(require("admin"))]
