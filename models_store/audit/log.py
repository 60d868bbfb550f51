"""The audit log: one line per event, chained by hashes, one chain per process and day (UTC).

`audit/{writer}/{n:012}.json` holds the lines of a chain from number n on that were written at once:
those of the events that came while the lines before them were being stored. A line is written
*before* its event takes effect; if it cannot be written, the event does not happen. So nothing
happens unlogged, but a line alone does not prove that its event went through (the record that it
names does). Lines never hold texts. What is two days old is moved into segments
(`models_store.audit.segments`).

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
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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
MOST_LINES = 256
"""Of one object; the lines that wait beyond these are written next."""
MAX_BATCH_BYTES = MOST_LINES * MAX_LINE_BYTES
_DAY_SECONDS = 24 * 3600
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


def batch_path(writer: str, n: int) -> str:
    """Of the lines of a chain that were written at once, the first of which is number n."""
    return f"{FOLDER}/{writer}/{n:012}.json"


@dataclass(frozen=True)
class Event:
    """What a line is about."""

    event: str
    tenant: str
    actor: Actor
    fields: dict[str, JsonValue]


class _Waiting:
    """Events to be written together, and what became of them."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.events = events
        self.lines: list[AuditLine] = []
        self.error: BaseException | None = None
        self.given_up = False

    @property
    def is_decided(self) -> bool:
        return bool(self.lines) or self.error is not None


class AuditLog:
    """The chains of one process, each of which begins with its first line. Thread-safe.

    Whoever comes while lines are being stored waits, and one of those who wait writes the lines of
    all of them.
    """

    def __init__(
        self,
        objects: ObjectStore,
        writer: str | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Args:
        writer: the name of the first chain; by default a random one.
        now: Unix seconds.
        """
        self._objects = objects
        self._now = now
        self._lock = Lock()
        self._waiting: deque[_Waiting] = deque()
        self._begin(writer or secrets.token_hex(8))

    @property
    def writer(self) -> str:
        return self._writer

    def append(self, event: str, *, tenant: str, actor: Actor, **fields: JsonValue) -> AuditLine:
        """Write a line; once this returns it is stored, and its event may take effect.

        Raises:
            Unavailable: `store_unavailable` or `store_full`; the event must not take effect.
        """
        (line,) = self.extend([Event(event, tenant, actor, fields)])
        return line

    def extend(self, events: Sequence[Event]) -> list[AuditLine]:
        """Write the lines of up to `MOST_LINES` events, all or none.

        Raises:
            Unavailable: as `append`.
        """
        own = _Waiting(events)
        self._waiting.append(own)
        with self._turn(own):
            while not own.is_decided:
                self._write_waiting()
        if own.error is not None:
            raise own.error
        return own.lines

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
    def _turn(self, own: _Waiting) -> Iterator[None]:
        """One writer at a time; the wait is limited, so that a slow store does not pile them up."""
        if not self._lock.acquire(timeout=_PATIENCE_SECONDS):
            own.given_up = True
            raise Unavailable(
                "the audit log cannot be written at the moment, so nothing is done: try again",
                code="store_unavailable",
            )
        try:
            yield
        finally:
            self._lock.release()

    def _write_waiting(self) -> None:
        """Write the lines of those who have waited longest, as one object."""
        batch: list[_Waiting] = []
        count = 0
        while self._waiting and (not batch or count + len(self._waiting[0].events) <= MOST_LINES):
            waiting = self._waiting.popleft()
            if not waiting.given_up:
                batch.append(waiting)
                count += len(waiting.events)
        if not batch:
            return
        try:
            lines = iter(self._write([event for waiting in batch for event in waiting.events]))
        except BaseException as error:
            for waiting in batch:
                waiting.error = error
            if not isinstance(error, Exception):
                raise
            return
        for waiting in batch:
            waiting.lines = [next(lines) for _ in waiting.events]

    def _write(self, events: Sequence[Event]) -> list[AuditLine]:
        if self._today != self._day:
            self._begin(secrets.token_hex(8))
        lines = self._next(events)
        while not self._objects.create(batch_path(self._writer, lines[0].n), join(lines)):
            self._make_way(lines[0].n)
            if self._previous == lines[-1].hash:
                return lines
            lines = self._next(events)
        self._advance(lines[-1])
        return lines

    def _next(self, events: Sequence[Event]) -> list[AuditLine]:
        lines: list[AuditLine] = []
        previous = self._previous
        for n, event in enumerate(events, self._n):
            line = AuditLine(
                writer=self._writer,
                n=n,
                at=self._now(),
                previous=previous,
                event=event.event,
                tenant=event.tenant,
                key_id=event.actor.key_id,
                fields={k: _short(value) for k, value in event.fields.items() if value is not None},
            )
            lines.append(line.model_copy(update={"hash": line.computed_hash}))
            previous = lines[-1].hash
        self._tried.add(previous)
        return lines

    def _make_way(self, n: int) -> None:
        """There is an object where line n belongs: continue after it if it is ours, else begin a
        new chain.

        A server may store an object and yet respond 500. So it may hold these very lines, or those
        of earlier events, refused because writing their lines seemed to fail.
        """
        path = batch_path(self._writer, n)
        try:
            stored = read_lines(self._objects.read(path))
        except (CorruptArtifact, ObjectMissing):
            stored = []
        if stored and stored[-1].hash in self._tried:
            self._advance(stored[-1])
            return
        _log.error("somebody else wrote into the audit log of this process", path=path)
        self._begin(secrets.token_hex(8))

    def _advance(self, last: AuditLine) -> None:
        self._n, self._previous = last.n + 1, last.hash
        self._tried.clear()

    def _begin(self, writer: str) -> None:
        self._writer = writer
        self._day = self._today
        self._n, self._previous = 0, FIRST
        self._tried: set[str] = set()
        """Hashes of the last lines that this process tried to write from number n on."""

    @property
    def _today(self) -> int:
        return int(self._now() // _DAY_SECONDS)


def join(lines: Sequence[AuditLine]) -> bytes:
    """Lines as they are stored together."""
    return b"\n".join(line.to_bytes() for line in lines)


def read_lines(data: bytes) -> list[AuditLine]:
    """Lines that were stored together, verified.

    Raises:
        CorruptArtifact: one is not a line, or was changed.
    """
    return [read_line(line) for line in data.split(b"\n")]


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
            "measures": None if settings.measures is None else settings.measures.name,
            "reproduces": settings.reproduces,
        }
        if settings.source is not None:
            hub, model = settings.source.hub, settings.source.model
            fields |= {
                "files_sha256": [file.sha256 for file in settings.source.files] or None,
                "hub": None if hub is None else f"{hub.repo}@{hub.revision}",
                "source_model": None if model is None else model.id,
                "source_fingerprint": settings.source.model_fingerprint,
            }
    elif isinstance(settings, ExportSettings):
        fields |= {"variant": settings.variant.name, "format": settings.format}
    return {name: value for name, value in fields.items() if value is not None}


def _short(value: JsonValue) -> JsonValue:
    if not isinstance(value, str):
        return value
    value = value.encode(errors="replace").decode()
    return value if len(value) <= _MAX_TEXT else value[: _MAX_TEXT - 1] + "…"
