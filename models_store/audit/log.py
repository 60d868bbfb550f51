"""The audit log: one line per event, chained by hashes, one chain per process.

`audit/{writer}/{n:012}.json`. A line is written *before* its event takes effect; if it cannot be
written, the event does not happen. So nothing happens unlogged, but a line alone does not prove
that its event went through (the record that it names does). Lines never hold texts.

A changed, removed, inserted or moved line breaks its chain. A truncated or removed chain is
detected with any earlier head (`models_store.audit.heads`). A line forged *after* the last head is
not detected: whoever can write to the store can add to it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import time
from collections.abc import Iterator
from threading import Lock
from typing import Any

import structlog
from pydantic import Field, JsonValue, field_validator

from models_store.errors import CorruptArtifact, PolicyRefused, Unavailable
from models_store.objects.store import ObjectMissing, ObjectStore
from models_store.schemas.base import Record
from models_store.schemas.records import Actor, EditSettings, ExportSettings, WorkRequest

_log = structlog.get_logger()

FOLDER = "audit"
NOBODY = Actor()
"""The service itself: no key was used."""
NO_TENANT = "_"
"""Tenant of lines about the installation."""
FIRST = "0" * 64
"""The `previous` of a chain's first line."""
MAX_LINE_BYTES = 32 * 1024
_PATIENCE_SECONDS = 10.0
_MAX_TEXT = 512
"""Longer values are cut; names and ids, which is all that belongs in a line, are shorter."""


class AuditLine(Record):
    """One event; `writer` names the chain."""

    n: int = Field(ge=0)
    at: float
    """Unix seconds."""
    previous: str
    """Hash of line n - 1 of this chain."""
    event: str
    tenant: str
    key_id: str | None = None
    """Of the API key that was used; None for the service itself, or with auth off."""
    fields: dict[str, JsonValue] = Field(default_factory=dict)
    hash: str = ""
    """SHA-256 of the canonical JSON of all fields but this one."""

    @field_validator("at")
    @classmethod
    def _milliseconds(cls, value: float) -> float:
        return round(value, 3)

    @property
    def computed_hash(self) -> str:
        """What `hash` must be."""
        return hashlib.sha256(canonical(self.model_dump(mode="json", exclude={"hash"}))).hexdigest()

    def to_bytes(self) -> bytes:
        return canonical(self.model_dump(mode="json"))


def canonical(value: Any) -> bytes:
    """Canonical JSON, over which hashes are computed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def line_path(writer: str, n: int) -> str:
    return f"{FOLDER}/{writer}/{n:012}.json"


class AuditLog:
    """The chain of one process, which begins with its first line. Thread-safe."""

    def __init__(self, objects: ObjectStore, writer: str | None = None) -> None:
        self._objects = objects
        self._lock = Lock()
        self._begin(writer or secrets.token_hex(8))

    @property
    def writer(self) -> str:
        return self._writer

    def append(self, event: str, *, tenant: str, actor: Actor, **fields: JsonValue) -> AuditLine:
        """Write a line; once this returns it is stored, and its event may take effect.

        Raises:
            Unavailable: `store_unavailable` or `store_full`; the event must not take effect.
        """
        shown = {name: _short(value) for name, value in fields.items() if value is not None}
        with self._turn():
            line = self._next(event, tenant, actor, shown)
            while not self._objects.create(line_path(self._writer, line.n), line.to_bytes()):
                self._make_way(line)
                if self._n > line.n and self._previous == line.hash:
                    return line
                line = self._next(event, tenant, actor, shown)
            self._advance(line)
            return line

    @contextlib.contextmanager
    def refusals(self, tenant: str, actor: Actor, **fields: JsonValue) -> Iterator[None]:
        """Log what the policy refuses within this context as `policy.refused`, with the reason."""
        try:
            yield
        except PolicyRefused as error:
            self.append(
                "policy.refused", tenant=tenant, actor=actor, reason=error.message, **fields
            )
            raise

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """One line at a time; the wait is limited, so that a slow store does not pile them up."""
        if not self._lock.acquire(timeout=_PATIENCE_SECONDS):
            raise Unavailable(
                "the audit log cannot be written at the moment, so nothing is done: try again",
                code="store_unavailable",
            )
        try:
            yield
        finally:
            self._lock.release()

    def _next(
        self, event: str, tenant: str, actor: Actor, fields: dict[str, JsonValue]
    ) -> AuditLine:
        line = AuditLine(
            writer=self._writer,
            n=self._n,
            at=time.time(),
            previous=self._previous,
            event=event,
            tenant=tenant,
            key_id=actor.key_id,
            fields=fields,
        )
        line = line.model_copy(update={"hash": line.computed_hash})
        self._tried.add(line.hash)
        return line

    def _make_way(self, line: AuditLine) -> None:
        """There is an object where `line` belongs: continue after it if it is ours, else begin a
        new chain.

        A server may store an object and yet respond 500. So it may be this very line, or that of an
        earlier event, refused because writing its line seemed to fail.
        """
        path = line_path(self._writer, line.n)
        try:
            stored = AuditLine.model_validate_json(self._objects.read(path))
        except (ValueError, ObjectMissing):
            stored = None
        if (
            stored is not None
            and stored.hash in self._tried
            and stored.hash == stored.computed_hash
        ):
            self._advance(stored)
            return
        _log.error("somebody else wrote into the audit log of this process", path=path)
        self._begin(secrets.token_hex(8))

    def _advance(self, line: AuditLine) -> None:
        self._n, self._previous = line.n + 1, line.hash
        self._tried.clear()

    def _begin(self, writer: str) -> None:
        self._writer = writer
        self._n, self._previous = 0, FIRST
        self._tried: set[str] = set()
        """Hashes of the lines that this process tried to write as number n."""


def read_line(data: bytes) -> AuditLine:
    """A stored line, verified.

    Raises:
        CorruptArtifact: it is not a line, or was changed.
    """
    try:
        line = AuditLine.model_validate_json(data)
    except ValueError as error:
        raise CorruptArtifact("it cannot be read as a line of the log") from error
    if line.hash != line.computed_hash or line.to_bytes() != data:
        raise CorruptArtifact("it was changed: its hash is not that of its content")
    return line


def about(request: WorkRequest) -> dict[str, JsonValue]:
    """The fields that the log has of a request."""
    settings = request.settings
    fields: dict[str, JsonValue] = {
        "base_model": request.base_model,
        "scopes": list(request.actor.scopes),
    }
    if request.behavior is not None:
        fields |= {"behavior": request.behavior.id, "behavior_sha256": request.behavior.sha256}
    if isinstance(settings, EditSettings):
        fields |= {
            "method": settings.method.type,
            "on_top_of": None if settings.on_top_of is None else settings.on_top_of.name,
            "reproduces": settings.reproduces,
        }
    elif isinstance(settings, ExportSettings):
        fields |= {"variant": settings.variant.name, "format": settings.format}
    return {name: value for name, value in fields.items() if value is not None}


def _short(value: JsonValue) -> JsonValue:
    if not isinstance(value, str):
        return value
    value = value.encode(errors="replace").decode()
    return value if len(value) <= _MAX_TEXT else value[: _MAX_TEXT - 1] + "…"
