"""API keys: a secret that is shown once, of which only the digest is kept."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterator

from pydantic import Field, field_validator
from ulid import ULID

from models_store.errors import InvalidRequest, NotFound
from models_store.ids import TENANT_PATTERN
from models_store.objects import ObjectStore, Record
from models_store.work import SHARED_TENANT

SCOPES = {
    "edits:read": "see edits, exports, behaviours, aliases and base models",
    "edits:write": "make, cancel and delete edits, exports, behaviours and aliases",
    "models:generate": "completions, comparisons and drafts",
    "admin": "register and remove base models",
    "edits:unsafe": "publish edits that make a model worse",
}
ALL_SCOPES = tuple(SCOPES)
DEFAULT_TENANT = "default"
_EARLIER_NAMES = {
    "read": "edits:read",
    "write": "edits:write",
    "generate": "models:generate",
    "operate": "admin",
}
_PREFIX = "sk-"
_FOLDER = "api_keys"


class ApiKey(Record):
    """What is known of a key; the secret is not."""

    id: str
    name: str
    tenant: str
    scopes: tuple[str, ...]
    created_at: int = Field(default_factory=lambda: int(time.time()))

    @field_validator("scopes")
    @classmethod
    def _todays_names(cls, scopes: tuple[str, ...]) -> tuple[str, ...]:
        """Keys outlive the names that scopes had when they were made."""
        return tuple(_EARLIER_NAMES.get(scope, scope) for scope in scopes)


class Revoked(Record):
    """The key is no longer accepted."""

    revoked_at: int = Field(default_factory=lambda: int(time.time()))


class ApiKeys:
    """The keys of every tenant."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def create(
        self, *, name: str, tenant: str = DEFAULT_TENANT, scopes: tuple[str, ...] = ALL_SCOPES
    ) -> tuple[str, ApiKey]:
        """Make a key: the secret, to be shown once, and its record.

        Raises:
            InvalidRequest: unknown scopes, or a tenant that cannot be one.
        """
        unknown = sorted(set(scopes) - set(SCOPES))
        if unknown or not scopes:
            raise InvalidRequest(
                f"scopes are some of {', '.join(SCOPES)}, not {', '.join(unknown) or 'none'}"
            )
        if not TENANT_PATTERN.fullmatch(tenant) or tenant == SHARED_TENANT:
            raise InvalidRequest(f"{tenant!r} cannot be a tenant: use letters, digits, - and _")
        secret = _PREFIX + secrets.token_urlsafe(32)
        key = ApiKey(id=f"key_{ULID()}", name=name, tenant=tenant, scopes=scopes)
        self._objects.create_record(f"{_folder(secret)}/key.json", key)
        return secret, key

    def find(self, secret: str) -> ApiKey | None:
        """The key of that secret; None when there is none or it was revoked."""
        folder = _folder(secret)
        key = self._objects.read_record(f"{folder}/key.json", ApiKey)
        if key is None or self._objects.info(f"{folder}/revoked.json") is not None:
            return None
        return key

    def revoke(self, id: str) -> None:
        """Accept the key no longer; API processes notice within seconds.

        Raises:
            NotFound: there is no such key.
        """
        for folder, key in self._all():
            if key.id == id:
                self._objects.create_record(f"{folder}/revoked.json", Revoked())
                return
        raise NotFound(f"no such key: {id}")

    def all(self) -> list[tuple[ApiKey, bool]]:
        """Every key, oldest first, and whether it is still accepted."""
        found = [
            (key, self._objects.info(f"{folder}/revoked.json") is None)
            for folder, key in self._all()
        ]
        return sorted(found, key=lambda one: one[0].id)

    def _all(self) -> Iterator[tuple[str, ApiKey]]:
        for name in self._objects.children(_FOLDER):
            folder = f"{_FOLDER}/{name}"
            key = self._objects.read_record(f"{folder}/key.json", ApiKey)
            if key is not None:
                yield folder, key


def _folder(secret: str) -> str:
    return f"{_FOLDER}/{hashlib.sha256(secret.encode()).hexdigest()}"
