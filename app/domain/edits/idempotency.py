"""Requests that may be sent twice: what an `Idempotency-Key` was first used for.

The record is created before the thing itself, so that a repeat finds the id that the first
request had chosen and finishes what a crash cut short.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue

from models_store.errors import Conflict, Malformed
from models_store.objects.store import ObjectStore
from models_store.schemas.records import IdempotencyRecord, Kind

IdempotentKind = Kind | Literal["behavior", "webhook", "api_key"]
KEPT_SECONDS = 30 * 24 * 3600
MAX_KEY_LENGTH = 255


def digest(body: JsonValue) -> str:
    """SHA-256 of the parsed body with its keys sorted: spelling and order don't matter."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True)
class IdempotencyKey:
    """A key as one request uses it.

    Raises (all methods):
        Conflict: `idempotency_key_reused`, it was used for another body or route.
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
        found = self.find()
        return found.id if found is not None else id
