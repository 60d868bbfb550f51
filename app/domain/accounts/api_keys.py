"""API keys: a secret that is shown once, of which only the digest is kept.

`api_keys/{sha256 of the secret}/` has `key.json`, then perhaps `revoked.json` and `replaced.json`,
and `used/{hour}`, which says when the key was last used.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, JsonValue, field_validator

from models_store import ids
from models_store.audit.log import AuditLog
from models_store.errors import (
    Conflict,
    FieldError,
    InvalidRequest,
    NotFound,
    ScalpelError,
)
from models_store.ids import TENANT_PATTERN
from models_store.objects.store import ObjectInfo, ObjectStore
from models_store.schemas.base import Record
from models_store.schemas.records import Actor
from models_store.work.store import SHARED_TENANT

SCOPES = {
    "edits:read": "see edits, exports, behaviours, aliases and base models",
    "edits:write": "make, cancel and delete edits, exports, behaviours and aliases",
    "models:generate": "completions, comparisons and drafts",
    "admin": "manage keys; of the tenant `default`: register and remove base models too",
    "edits:unsafe": "publish edits that make a model worse, and use any edit at any strength",
}
ALL_SCOPES = tuple(SCOPES)
USERS_SCOPES = ("edits:read", "edits:write", "models:generate")
"""What those need who make edits and use them."""
DEFAULT_TENANT = "default"
"""The operator's."""
MAX_NAME_LENGTH = 100
KeyStatus = Literal["active", "expired", "revoked"]

_EARLIER_NAMES = {
    "read": "edits:read",
    "write": "edits:write",
    "generate": "models:generate",
    "operate": "admin",
}
_PREFIX = "sk-"
_FOLDER = "api_keys"
_USED = re.compile(r"used/([0-9]{1,12})")
_USE_SECONDS = 3600
"""How exactly the last use is known: an object in the store for every key and hour, at most."""


MOST_KEYS = 10_000
"""Of one tenant, ended ones included, which then make room."""
KEPT_DAYS = 30
"""How long a key that has ended is listed, at most."""


class ApiKey(Record):
    """What is known of a key; the secret is not."""

    id: str
    name: str
    tenant: str
    scopes: tuple[str, ...]
    created_at: int = Field(default_factory=lambda: int(time.time()))
    expires_at: int | None = None
    """Unix seconds; None: never."""
    made_by: str | None = None
    """The key that made it; None: the command line, or no key was required."""
    replaces: str | None = None
    """The key in whose place it came."""

    @property
    def actor(self) -> Actor:
        """Who acts with it."""
        return Actor(key_id=self.id, scopes=self.scopes)

    @field_validator("scopes")
    @classmethod
    def _todays_names(cls, scopes: tuple[str, ...]) -> tuple[str, ...]:
        """Keys outlive the names that scopes had when they were made."""
        return tuple(_EARLIER_NAMES.get(scope, scope) for scope in scopes)


class Revoked(Record):
    """The key is no longer accepted."""

    revoked_at: int = Field(default_factory=lambda: int(time.time()))


class Replaced(Record):
    """Another key came in its place; it is accepted for a while still."""

    by: str
    accepted_until: int


@dataclass(frozen=True)
class KeyState:
    """A key and what became of it."""

    digest: str
    """SHA-256 of its secret."""
    key: ApiKey
    revoked_at: float | None = None
    """Unix seconds."""
    replaced: Replaced | None = None
    last_used_at: int | None = None
    """Unix seconds, the beginning of an hour."""

    @property
    def expires_at(self) -> int | None:
        """When it ends of itself, or since it was replaced; whichever comes first."""
        ends = [self.key.expires_at, self.replaced.accepted_until if self.replaced else None]
        return min((end for end in ends if end is not None), default=None)

    @property
    def ended_at(self) -> float | None:
        """Since when it is accepted no more, or from when on; None: no end is known."""
        ends = [end for end in (self.revoked_at, self.expires_at) if end is not None]
        return min(ends, default=None)

    @property
    def status(self) -> KeyStatus:
        if self.revoked_at is not None:
            return "revoked"
        expires_at = self.expires_at
        return "active" if expires_at is None or time.time() < expires_at else "expired"


class ApiKeys:
    """The keys of every tenant."""

    def __init__(self, objects: ObjectStore, audit: AuditLog | None = None) -> None:
        """Args:
        audit: the log of this process; by default one of its own.
        """
        self._objects = objects
        self._audit = audit or AuditLog(objects)
        self._known: dict[str, ApiKey] = {}
        """Records that were read, by digest: they never change."""

    def create(
        self,
        *,
        name: str,
        tenant: str = DEFAULT_TENANT,
        scopes: Sequence[str] = ALL_SCOPES,
        expires_at: int | None = None,
        made_by: str | None = None,
        replaces: str | None = None,
        id: str | None = None,
    ) -> tuple[str, ApiKey]:
        """Make a key: the secret, 256 random bits to be shown once, and its record.

        Raises:
            InvalidRequest: unknown scopes, a tenant that cannot be one, no name, or an end that
                has passed.
            Conflict: `too_many_api_keys`.
        """
        check(name, tenant, scopes, expires_at)
        states = self.all()
        _require_distinct(tenant, states)
        self._make_room([state for state in states if state.key.tenant == tenant])
        secret = _PREFIX + secrets.token_urlsafe(32)
        key = ApiKey(
            id=id or ids.new_id("api_key"),
            name=name,
            tenant=tenant,
            scopes=tuple(scopes),
            expires_at=expires_at,
            made_by=made_by,
            replaces=replaces,
        )
        self._log("key.created", key, made_by, scopes=list(scopes), replaces=replaces)
        self._objects.create_record(f"{_FOLDER}/{digest_of(secret)}/key.json", key)
        return secret, key

    def find(self, secret: str) -> KeyState | None:
        """The key of that secret, whatever its status; None when there is none."""
        return self.find_digest(digest_of(secret))

    def find_digest(self, digest: str) -> KeyState | None:
        """The key whose secret has that SHA-256."""
        key = self._read(digest)
        files = self._objects.files(f"{_FOLDER}/{digest}") if key is not None else []
        # What is remembered may have been erased since.
        return self._state(digest, key, files) if key is not None and _is_whole(files) else None

    def get(self, id: str, tenant: str | None = None) -> KeyState:
        """The key of that id, among those of the tenant where one is given.

        Raises:
            NotFound: there is none.
        """
        for state in self.all(tenant):
            if state.key.id == id:
                return state
        raise NotFound(f"no such key: {id}")

    def all(self, tenant: str | None = None) -> list[KeyState]:
        """Every key, of the tenant where one is given; oldest first."""
        return self._states(self._folders(), tenant)

    def _states(
        self, folders: Mapping[str, Sequence[ObjectInfo]], tenant: str | None = None
    ) -> list[KeyState]:
        def read(digest: str) -> KeyState | None:
            files = folders[digest]
            key = self._read(digest) if _is_whole(files) else None
            if key is None or tenant not in (None, key.tenant):
                return None
            return self._state(digest, key, files)

        states = [state for _, state in self._objects.each_readable(folders, read)]
        return sorted(states, key=lambda state: state.key.id)

    def _folders(self) -> dict[str, list[ObjectInfo]]:
        """The files of each key by digest."""
        folders: dict[str, list[ObjectInfo]] = {}
        for info in self._objects.files(_FOLDER):
            folders.setdefault(info.path.split("/")[1], []).append(info)
        return folders

    def _make_room(self, states: Sequence[KeyState]) -> None:
        """For one more key beside these of its tenant: the one that ended first goes.

        Raises:
            Conflict: `too_many_api_keys`, none has ended.
        """
        if len(states) < MOST_KEYS:
            return
        ended = [state for state in states if state.status != "active"]
        if not ended:
            raise Conflict(
                f"there are {MOST_KEYS} keys, which is as many as can be: revoke some",
                code="too_many_api_keys",
            )
        self._remove(min(ended, key=lambda state: state.ended_at or 0.0).digest)

    def revoke(self, state: KeyState, by: str | None = None) -> None:
        """Accept the key no longer; API processes notice within seconds.

        Args:
            by: the key that was used; None: the command line.
        """
        self._log("key.revoked", state.key, by)
        self._objects.create_record(f"{_FOLDER}/{state.digest}/revoked.json", Revoked())

    def rotate(
        self,
        state: KeyState,
        *,
        overlap_seconds: int = 0,
        made_by: str | None = None,
        id: str | None = None,
    ) -> tuple[str, ApiKey]:
        """Make a key in place of another one, with its rights and as long a life.

        Args:
            overlap_seconds: how long the old one is still accepted.

        Raises:
            Conflict: `key_ended`, the old one is accepted no more, or was replaced before.
        """
        old = state.key
        if state.status != "active" or state.replaced is not None:
            what = state.status if state.replaced is None else f"replaced by {state.replaced.by}"
            raise Conflict(f"{old.id} is {what}: make a new key", code="key_ended")
        now = int(time.time())
        life = None if old.expires_at is None else old.expires_at - old.created_at
        secret, key = self.create(
            name=old.name,
            tenant=old.tenant,
            scopes=old.scopes,
            expires_at=None if life is None else now + life,
            made_by=made_by,
            replaces=old.id,
            id=id,
        )
        self._log("key.rotated", old, made_by, replaced_by=key.id, overlap_seconds=overlap_seconds)
        # Last, so that a crash leaves a key too many rather than none that works.
        replaced = Replaced(by=key.id, accepted_until=now + overlap_seconds)
        if not self._objects.create_record(f"{_FOLDER}/{state.digest}/replaced.json", replaced):
            self.revoke(KeyState(digest_of(secret), key), made_by)
            raise Conflict(
                f"{old.id} was replaced by another request at the same time", code="key_ended"
            )
        return secret, key

    def remove_ended(self, now: float) -> int:
        """Remove the keys that ended `KEPT_DAYS` before `now` (Unix seconds): how many."""
        limit = now - KEPT_DAYS * 24 * 3600
        folders = self._folders()
        ended = [s.digest for s in self._states(folders) if (s.ended_at or now) < limit]
        left = [
            digest
            for digest, files in folders.items()
            if not _is_whole(files) and all(info.modified_at < limit for info in files)
        ]
        for digest in (*ended, *left):
            self._remove(digest)
        return len(ended)

    def _remove(self, digest: str) -> None:
        # What ends it goes last, so that it is not accepted again if this breaks off.
        paths = self._objects.paths(f"{_FOLDER}/{digest}")
        for path in sorted(paths, key=lambda path: not path.endswith("/key.json")):
            self._objects.delete(path)

    def note_use(self, state: KeyState) -> None:
        """Remember the hour of this use; a store that cannot be written to is let pass."""
        hour = _hour()
        if state.last_used_at is not None and state.last_used_at >= hour:
            return
        folder = f"{_FOLDER}/{state.digest}/used"
        with contextlib.suppress(ScalpelError):
            self._objects.create(f"{folder}/{hour}", b"")
            if state.last_used_at is not None:
                self._objects.delete(f"{folder}/{state.last_used_at}")

    def _log(self, event: str, key: ApiKey, by: str | None, **fields: JsonValue) -> None:
        actor = Actor(key_id=by)
        self._audit.append(event, tenant=key.tenant, actor=actor, id=key.id, **fields)

    def _state(self, digest: str, key: ApiKey, files: Sequence[ObjectInfo]) -> KeyState:
        folder = f"{_FOLDER}/{digest}/"
        names = {info.path.removeprefix(folder) for info in files}
        used = [int(match[1]) for name in names if (match := _USED.fullmatch(name))]
        replaced = None
        if "replaced.json" in names:
            replaced = self._objects.read_record(folder + "replaced.json", Replaced)
        revoked = (info.modified_at for info in files if info.path == folder + "revoked.json")
        return KeyState(digest, key, next(revoked, None), replaced, max(used) if used else None)

    def _read(self, digest: str) -> ApiKey | None:
        key = self._known.get(digest)
        if key is None:
            key = self._objects.read_record(f"{_FOLDER}/{digest}/key.json", ApiKey)
            if key is not None:
                self._known[digest] = key
        return key


def check(name: str, tenant: str, scopes: Sequence[str], expires_at: int | None) -> None:
    """Raise `InvalidRequest` unless such a key can be made; it names every wrong field."""
    problems = [
        FieldError(f"/scopes/{place}", "unknown_scope", f"{scope!r} is none of {_all_scopes()}")
        for place, scope in enumerate(scopes)
        if scope not in SCOPES
    ]
    if not scopes or len(set(scopes)) < len(scopes):
        detail = f"name some scopes, each once: {_all_scopes()}"
        problems.append(FieldError("/scopes", "invalid_value", detail))
    if not 0 < len(name.strip()) <= MAX_NAME_LENGTH or not name.isprintable():
        detail = f"a name has 1 to {MAX_NAME_LENGTH} characters, on one line"
        problems.append(FieldError("/name", "invalid_value", detail))
    if not TENANT_PATTERN.fullmatch(tenant) or tenant == SHARED_TENANT:
        detail = f"{tenant!r} cannot be a tenant: use letters, digits, - and _"
        problems.append(FieldError("/tenant", "invalid_value", detail))
    if expires_at is not None and expires_at <= time.time():
        detail = "must be in the future: Unix seconds"
        problems.append(FieldError("/expires_at", "invalid_value", detail))
    if problems:
        raise InvalidRequest("; ".join(problem.detail for problem in problems), errors=problems)


def _is_whole(files: Sequence[ObjectInfo]) -> bool:
    """Whether these are the files of a key, and not what is left of one."""
    return any(info.path.endswith("/key.json") for info in files)


def _require_distinct(tenant: str, states: Sequence[KeyState]) -> None:
    """Some file systems keep what differs by case only in one folder."""
    for other in {state.key.tenant for state in states}:
        if other != tenant and other.casefold() == tenant.casefold():
            detail = f"there is a tenant {other!r}: choose a name that differs by more than case"
            raise InvalidRequest.at("/tenant", detail)


def digest_of(secret: str) -> str:
    """What a key is looked up by, so that no comparison leaks a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _all_scopes() -> str:
    return ", ".join(SCOPES)


def _hour() -> int:
    return int(time.time()) // _USE_SECONDS * _USE_SECONDS
