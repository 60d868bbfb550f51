"""Requests that may be sent twice: what an `Idempotency-Key` was first used for.

The record is created before the thing itself, so that a repeat finds the id that the first
request had chosen and finishes what a crash cut short.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from pydantic import JsonValue

from models_store import ids
from models_store.errors import Conflict, CorruptArtifact, Malformed, ScalpelError
from models_store.objects.store import ObjectStore
from models_store.schemas.records import Actor, IdempotencyRecord, Kind

IdempotentKind = Kind | Literal["behavior", "file", "webhook", "api_key"]
KEPT_SECONDS = 30 * 24 * 3600
MAX_KEY_LENGTH = 255
_RETRY_SECONDS = 2
T = TypeVar("T")


def digest(body: JsonValue) -> str:
    """SHA-256 of the parsed body with its keys sorted: spelling and order don't matter."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True)
class IdempotencyKey:
    """A key as one request uses it.

    Raises (all methods):
        Conflict: `idempotency_key_reused`, it was used for another body or route;
            `idempotency_key_damaged`, for what can no longer be read.
    """

    objects: ObjectStore
    tenant: str
    key: str
    route: str
    body_sha256: str

    def __post_init__(self) -> None:
        if not 0 < len(self.key) <= MAX_KEY_LENGTH:
            raise Malformed(
                f"an Idempotency-Key has 1 to {MAX_KEY_LENGTH} characters, not {len(self.key)}",
                code="bad_request",
            )

    @property
    def path(self) -> str:
        return f"idempotency/{self.tenant}/{hashlib.sha256(self.key.encode()).hexdigest()}.json"

    def find(self) -> IdempotencyRecord | None:
        """What an earlier request with this key made, or set out to make."""
        with _readable():
            record = self.objects.read_record(self.path, IdempotencyRecord)
        if record is None:
            return None
        if time.time() > record.created_at + KEPT_SECONDS:
            self.objects.delete(self.path)
            return None
        if record.route != self.route or record.body_sha256 != self.body_sha256:
            raise Conflict(
                "this Idempotency-Key was used before for another request: use a new key for "
                "each thing you create",
                code="idempotency_key_reused",
            )
        return record

    def claim(self, kind: IdempotentKind, id: str) -> str:
        """Bind the key to `id`, unless it is bound: the id that counts."""
        record = IdempotencyRecord(kind=kind, id=id, route=self.route, body_sha256=self.body_sha256)
        if self.objects.create_record(self.path, record):
            return id
        earlier = self.find()
        return earlier.id if earlier is not None else id

    def release(self) -> None:
        """Let the key be used anew: what it was bound to was not made."""
        with contextlib.suppress(ScalpelError):
            self.objects.delete(self.path)


@dataclass(frozen=True)
class Sender:
    """The caller, and its idempotency key, if any."""

    tenant: str
    actor: Actor
    key: IdempotencyKey | None = None


def create_once(
    sender: Sender,
    kind: IdempotentKind,
    find: Callable[[str], T | None],
    make: Callable[[Callable[[], str]], T],
    *,
    resumable: bool = True,
) -> tuple[T, bool]:
    """What `make` makes, or what an earlier request with the sender's key has made.

    Args:
        find: the thing of an id; None where an earlier request was cut short before it was made.
        make: checks all there is to check, then calls its argument for the id, then makes it.
        resumable: whether a repeat may finish, under the same id, what was cut short.

    Returns:
        The thing; whether it was there already.

    Raises:
        Conflict: `idempotency_key_reused`; `idempotency_key_in_use`, the earlier request is not
            done and cannot be finished by another; `idempotency_key_damaged`, what it made cannot
            be read.
        Whatever `find` and `make` raise.
    """
    key, fresh = sender.key, ids.new_id(kind)
    record = key.find() if key is not None else None
    if record is not None:
        with _readable():
            earlier = find(record.id)
        if earlier is not None:
            return earlier, True
        if not resumable:
            raise _in_use()
    claimed = False

    def claim() -> str:
        nonlocal claimed
        id = key.claim(kind, fresh) if key is not None else fresh
        if id != fresh and not resumable:
            raise _in_use()
        claimed = True
        return id

    try:
        return make(claim), False
    except ScalpelError:
        if key is not None and claimed and not resumable:
            key.release()
        raise


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except CorruptArtifact as error:
        raise Conflict(
            "what this Idempotency-Key was used for can no longer be read: look whether its "
            "request was done, and use a new key if not",
            code="idempotency_key_damaged",
        ) from error


def _in_use() -> Conflict:
    return Conflict(
        "the first request with this Idempotency-Key is not done, or was cut short",
        code="idempotency_key_in_use",
        retry_after=_RETRY_SECONDS,
    )
