"""Work in the store: submit, claim, end, cancel, delete and read it.

Every step is one conditional create: after a crash between two of them the next reader can finish
what is there, and no two processes can both believe that they decided.

```
{kind}s/{tenant}/{bucket}/{id}/request.json
                              /texts.jsonl, source/…
                              /attempts/{n}/claim.json, end.json, artifacts…
                              /result.json, summary.json
                              /deleted.json
open/{tenant}/{id}
outbox/{tenant}/{id}
```
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Protocol, TypeVar

from pydantic import JsonValue

from models_store import ids
from models_store.audit.log import NOBODY, AuditLog, Event, about
from models_store.audit.reads import ReadLog
from models_store.errors import Conflict, CorruptArtifact, NewerRecord, NotFound
from models_store.objects.store import ObjectMissing, ObjectStore, readable
from models_store.objects.versions import parse_stored
from models_store.schemas.base import Record
from models_store.schemas.records import (
    Actor,
    AttemptEnd,
    Claim,
    Deleted,
    EditSettings,
    ErrorInfo,
    Kind,
    Marker,
    Result,
    Status,
    Summary,
    WorkRequest,
    outcome_of,
)
from models_store.work.outbox import Outbox

FOLDERS: dict[Kind, str] = {"edit": "edits", "export": "exports", "base_model": "base_models"}
_ULID_LENGTH = 26
R = TypeVar("R", bound=Record)
SHARED_TENANT = "_"
"""Owner of work that depends on base models alone."""


def kind_of(id: str) -> Kind | None:
    """The kind of work with such an id; None when it is not an id of work."""
    kinds: tuple[Kind, ...] = ("edit", "export", "base_model")
    prefix, _, ulid = id.rpartition("_")
    if not ids.ID_PATTERN.fullmatch(id) or len(ulid) != _ULID_LENGTH:
        return None
    return next((kind for kind in kinds if ids.PREFIXES[kind] == prefix), None)


@dataclass(frozen=True)
class Work:
    """One piece of work, as its records were when they were read."""

    request: WorkRequest
    claims: tuple[Claim, ...]
    """By attempt, up to the one that the result names."""
    ends: tuple[AttemptEnd | None, ...]
    """One per claim; None while the attempt runs."""
    result: Result | None

    @property
    def id(self) -> str:
        return self.request.id

    @property
    def imported(self) -> bool:
        """Whether it is an edit that was made elsewhere."""
        settings = self.request.settings
        return isinstance(settings, EditSettings) and settings.source is not None

    @cached_property
    def status(self) -> Status:
        if self.result is not None:
            return self.result.status
        return "running" if self.claims else "queued"

    @property
    def attempt(self) -> int:
        return len(self.claims)

    @property
    def running(self) -> Claim | None:
        """The running attempt, if any."""
        if self.result is None and self.claims and self.ends[-1] is None:
            return self.claims[-1]
        return None


@dataclass(frozen=True, slots=True)
class Place:
    """Where the records of one piece of work are."""

    kind: Kind
    tenant: str
    id: str

    @property
    def folder(self) -> str:
        return f"{FOLDERS[self.kind]}/{self.tenant}/{ids.bucket_of(self.id)}/{self.id}"

    @property
    def marker(self) -> str:
        return f"open/{self.tenant}/{self.id}"

    @property
    def summary(self) -> str:
        return f"{self.folder}/summary.json"

    @property
    def texts(self) -> str:
        return f"{self.folder}/texts.jsonl"

    def source(self, name: str) -> str:
        """Of a file that the work starts from."""
        return f"{self.folder}/source/{name}"

    def attempt(self, number: int) -> str:
        return f"{self.folder}/attempts/{number}"


class _Read(Protocol):
    def __call__(self, name: str, kind: type[R], /) -> R | None: ...


def _fold(place: Place, read: _Read) -> Work:
    """Work from its records, which `read` gives by name."""
    request = read("request.json", WorkRequest)
    if request is None:
        raise _no_such(place)
    result = read("result.json", Result)
    claims: list[Claim] = []
    ends: list[AttemptEnd | None] = []
    while result is None or len(claims) < result.attempt:
        folder = f"attempts/{len(claims) + 1}"
        claim = read(f"{folder}/claim.json", Claim)
        if claim is None:
            break
        claims.append(claim)
        ends.append(read(f"{folder}/end.json", AttemptEnd))
    return Work(request, tuple(claims), tuple(ends), result)


def _no_such(place: Place) -> NotFound:
    return NotFound(f"no such {place.kind.replace('_', ' ')}: {place.id}")


def _without_words(request: WorkRequest) -> WorkRequest:
    """A request without what its sender wrote: behaviour, texts, suffix, metadata, source."""
    settings = request.settings
    if isinstance(settings, EditSettings):
        settings = settings.model_copy(update={"suffix": None, "metadata": {}, "source": None})
    return request.model_copy(update={"body": None, "behavior": None, "settings": settings})


def _without_message(result: Result) -> Result:
    error = result.error
    if error is not None:
        error = ErrorInfo(code=error.code, message="it was deleted since")
    return result.model_copy(update={"error": error, "outcome_data": {}})


class WorkStore:
    """The records of all work, of every kind and tenant."""

    def __init__(self, objects: ObjectStore, audit: AuditLog | None = None) -> None:
        """Args:
        audit: the log of this process; by default a new one.
        """
        self.objects = objects
        self.audit = audit or AuditLog(objects)
        self.reads = ReadLog(self.audit)

    def submit(
        self,
        request: WorkRequest,
        texts: bytes | None = None,
        *,
        files: Mapping[str, Iterable[bytes]] = MappingProxyType({}),
        logged: Sequence[Event] = (),
    ) -> Work:
        """Submit a piece of work; once this returns it will be done, or fail with a reason.

        Submitting the same id again completes an interrupted submission and changes nothing else.

        Args:
            files: pieces of those that the work starts from, by name.
            logged: events that get their lines in the audit log with its own.
        """
        if texts is not None:
            digest = hashlib.sha256(texts).hexdigest()
            request = request.model_copy(update={"texts_sha256": digest})
        place = Place(request.kind, request.tenant, request.id)
        own = _event(place, "submitted", request.actor, **about(request))
        self.audit.extend([*logged, own])
        self.objects.create_record(place.marker, Marker(kind=request.kind))
        if request.kind == "edit":
            Outbox(self.objects).put(request.tenant, request.id)
        if texts is not None:
            self.objects.create(place.texts, texts)
        for name, pieces in files.items():
            self.objects.put(place.source(name), pieces)
        if self.objects.create_record(f"{place.folder}/request.json", request):
            return Work(request, (), (), None)
        return self.read(request.kind, request.tenant, request.id)

    def read(self, kind: Kind, tenant: str, id: str) -> Work:
        """One piece of work, from its summary or its records.

        Raises:
            NotFound: there is no such work in this tenant, or it was deleted.
            CorruptArtifact: a record cannot be read.
        """
        place = Place(kind, tenant, id)
        names = self._names(place)
        ended = {"summary.json", "result.json"} <= names
        return (self._summary(place) if ended else None) or self._from_records(place, names)

    def _from_records(self, place: Place, names: set[str]) -> Work:
        def read(name: str, kind: type[R]) -> R | None:
            path = f"{place.folder}/{name}"
            return self.objects.read_record(path, kind) if name in names else None

        return _fold(place, read)

    def summarize(self, place: Place) -> bool:
        """Make the summary of work that has ended; False if its records cannot be read."""
        bodies: dict[str, str] = {}

        def read(name: str, kind: type[R]) -> R | None:
            path = f"{place.folder}/{name}"
            body = self.objects.record_body(path)
            if body is None:
                return None
            bodies[name] = body.decode()
            return parse_stored(kind, body, f"the record {path}")

        try:
            self._names(place)  # it was not deleted
            if _fold(place, read).result is None:
                return False
        except (NotFound, CorruptArtifact, NewerRecord, UnicodeDecodeError):
            return False
        # Refused where there is one, as there is of deleted work.
        summary = Summary(records=bodies)
        try:
            self.objects.create_record(place.summary, summary)
        except CorruptArtifact:
            self.objects.put_record(place.summary, summary)
        return True

    def _summary(self, place: Place) -> Work | None:
        """Work that has ended, by its summary; None where there is none that can be read.

        Raises:
            NotFound: it was deleted.
            NewerRecord: a record in it is of a later version.
        """
        try:
            summary = self.objects.read_record(place.summary, Summary)
        except (CorruptArtifact, NewerRecord):
            return None  # what it was made from may be whole
        if summary is None:
            return None
        if summary.deleted:
            raise _no_such(place)
        records = summary.records

        def read(name: str, kind: type[R]) -> R | None:
            what = f"the record {place.folder}/{name}"
            return parse_stored(kind, records[name].encode(), what) if name in records else None

        return _fold(place, read)

    def _names(self, place: Place) -> set[str]:
        """Paths of its objects, within its folder.

        Raises:
            NotFound: there is no such work in this tenant, or it was deleted.
        """
        prefix = f"{place.folder}/"
        names = {path.removeprefix(prefix) for path in self.objects.paths(place.folder)}
        if "request.json" not in names or "deleted.json" in names:
            raise _no_such(place)
        return names

    def require(self, kind: Kind, tenant: str, id: str) -> None:
        """Pass if there is such work, damaged or not.

        Raises:
            NotFound: there is none in this tenant, or it was deleted.
        """
        self._names(Place(kind, tenant, id))

    def find(self, place: Place) -> Work | None:
        """The work at a place; None when there is none or it was deleted."""
        try:
            return self.read(place.kind, place.tenant, place.id)
        except NotFound:
            return None

    def remains(self, place: Place) -> Work | None:
        """What is left of deleted work in its tombstone."""
        tombstone = self.objects.read_record(f"{place.folder}/deleted.json", Deleted)
        if tombstone is None:
            return None
        request, result = tombstone.request, tombstone.result
        if request is None:  # of an earlier version, which left the records beside it
            request, result = self._readable(place)
        return None if request is None else Work(request, (), (), result)

    def was_deleted(self, kind: Kind, tenant: str, id: str) -> bool:
        """Whether there was such work and it was deleted."""
        folder = Place(kind, tenant, id).folder
        return self.objects.info(f"{folder}/deleted.json") is not None

    def is_begun(self, place: Place) -> bool:
        """Whether work was submitted there, deleted or not, or is being submitted."""
        names = (f"{place.folder}/{name}.json" for name in ("request", "deleted"))
        paths = (place.marker, *names)
        return any(self.objects.info(path) is not None for path in paths)

    def result_of(self, place: Place) -> Result | None:
        return self.objects.read_record(f"{place.folder}/result.json", Result)

    def claim(self, place: Place, worker: str) -> Claim | None:
        """Begin the next attempt; None when none is due, or another process was faster."""
        work = self.read(place.kind, place.tenant, place.id)
        if work.result is not None or work.running is not None:
            return None
        if work.ends and work.ends[-1] is not None and outcome_of(work.ends[-1]) is not None:
            return None
        claim = Claim(
            attempt=work.attempt + 1, worker=worker, host=socket.gethostname(), pid=os.getpid()
        )
        path = f"{place.attempt(claim.attempt)}/claim.json"
        return claim if self.objects.create_record(path, claim) else None

    def end_attempt(self, place: Place, end: AttemptEnd) -> bool:
        """End an attempt; False when it had ended already, and nothing may be published."""
        return self.objects.create_record(f"{place.attempt(end.attempt)}/end.json", end)

    def finish(self, place: Place, result: Result) -> Result:
        """Decide how the work ended; returns what was decided, perhaps by another process."""
        path = f"{place.folder}/result.json"
        code = result.error.code if result.error is not None else None
        self._log(place, "ended", NOBODY, status=result.status, code=code, attempt=result.attempt)
        decided: Result | None = result
        if not self.objects.create_record(path, result):
            decided = self.objects.read_record(path, Result)
        self.summarize(place)
        self.objects.delete(place.marker)
        return decided if decided is not None else result

    def publish(self, place: Place, end: AttemptEnd) -> bool:
        """End an attempt and, if that ends the work, the work; True when both records are ours."""
        if self.objects.exists(f"{place.folder}/deleted.json") or not self.end_attempt(place, end):
            return False
        result = outcome_of(end)
        return result is None or self.finish(place, result).writer == result.writer

    def settle(self, work: Work) -> Result | None:
        """Write the result of work whose last attempt ended it, if a crash prevented that."""
        if work.result is not None:
            return work.result
        last = work.ends[-1] if work.ends else None
        result = outcome_of(last) if last is not None else None
        request = work.request
        return result and self.finish(Place(request.kind, request.tenant, request.id), result)

    def cancel(self, kind: Kind, tenant: str, id: str, actor: Actor = NOBODY) -> Work:
        """End the work as canceled; idempotent.

        Raises:
            Conflict: `edit_already_finished`, it succeeded or failed; `edit_damaged`, a record of
                it cannot be read, and it was ended all the same.
        """
        place = Place(kind, tenant, id)
        try:
            work = self.read(kind, tenant, id)
        except CorruptArtifact as error:
            names = self._names(place)
            if "result.json" not in names:
                self._log(place, "canceled", actor)
            self._end_unread(place, names)
            raise Conflict(
                f"{id} is damaged, and is now ended if it was not: {error.message}; delete it",
                code=f"{kind}_damaged",
            ) from error
        if work.result is None:
            self._log(place, "canceled", actor)
        result = self.settle(work) or self.finish(
            place, Result(status="canceled", attempt=work.attempt)
        )
        if result.status != "canceled":
            raise Conflict(
                f"{id} is already {result.status} and cannot be canceled",
                code=f"{kind}_already_finished",
            )
        return self.read(kind, tenant, id)

    def fail(self, place: Place, attempt: int, error: ErrorInfo) -> Result:
        return self.finish(place, Result(status="failed", attempt=attempt, error=error))

    def delete(self, kind: Kind, tenant: str, id: str, actor: Actor = NOBODY) -> None:
        """Delete the work: write a tombstone, then remove texts and attempts.

        Only names are looked at, so what is damaged can be deleted too.

        Raises:
            NotFound: there is no such work in this tenant, or it was deleted.
        """
        place = Place(kind, tenant, id)
        names = self._names(place)
        request, result = self._readable(place)
        self._log(place, "deleted", actor)
        result = result or self._end_unread(place, names)
        tombstone = Deleted(
            request=None if request is None else _without_words(request),
            result=None if result is None else _without_message(result),
        )
        # First what readers look at, so that it is not seen again if this breaks off.
        self.objects.put_record(place.summary, Summary(deleted=True))
        self.objects.create_record(f"{place.folder}/deleted.json", tombstone)
        self.erase(place)

    def _readable(self, place: Place) -> tuple[WorkRequest | None, Result | None]:
        """Request and result, as far as they can be read.

        Raises:
            NewerRecord: a later version of Scalpel wrote one.
        """
        path = f"{place.folder}/request.json"
        return (
            readable(path, lambda path: self.objects.read_record(path, WorkRequest)),
            readable(f"{place.folder}/result.json", lambda _: self.result_of(place)),
        )

    def _end_unread(self, place: Place, names: set[str]) -> Result | None:
        """End work as canceled by the names of its records alone; None if it had a result."""
        if "result.json" in names:
            self.objects.delete(place.marker)
            return None
        attempts = sum(name.endswith("/claim.json") for name in names)
        return self.finish(place, Result(status="canceled", attempt=attempts))

    def erase(self, place: Place) -> None:
        """Remove all of deleted work but its tombstone and a summary that says so: none can be made
        of it any more, and readers look for nothing else where there is one."""
        self.objects.put_record(place.summary, Summary(deleted=True))
        kept = {place.summary, f"{place.folder}/deleted.json"}
        for path in self.objects.paths(place.folder):
            if path not in kept:
                self.objects.delete(path)

    def open_work(self) -> Iterator[Place]:
        """All work without a result, by its markers, which may be stale."""
        for tenant in self.objects.children("open"):
            for id in self.objects.children(f"open/{tenant}"):
                # The marker's name holds all that is in it, so a damaged one counts too.
                kind = kind_of(id)
                if kind is not None:
                    yield Place(kind, tenant, id)

    def list_ids(
        self, kind: Kind, tenant: str, *, after: str | None = None, descending: bool = True
    ) -> Iterator[str]:
        """Ids of one kind by time of creation; `after` need not exist."""
        listed = self.objects.ids(f"{FOLDERS[kind]}/{tenant}", after, descending=descending)
        return (id for id in listed if id != after)

    def walk(
        self, kind: Kind, tenant: str, *, after: str | None = None, descending: bool = True
    ) -> Iterator[Work]:
        """All readable work of one kind, in the order of `list_ids`."""
        ids = self.list_ids(kind, tenant, after=after, descending=descending)
        found = self.objects.each_readable(ids, lambda id: self.find(Place(kind, tenant, id)))
        return (work for _, work in found)

    def read_texts(self, request: WorkRequest) -> bytes:
        """The texts that the work was submitted with.

        Raises:
            CorruptArtifact: they were changed.
            NotFound: they are gone.
        """
        place = Place(request.kind, request.tenant, request.id)
        return self.read_artifact(place.texts, request.texts_sha256)

    def texts_of(self, work: Work) -> bytes:
        """The texts that an edit was made from: those that it made itself, or was submitted with.

        Raises:
            CorruptArtifact: they were changed.
            NotFound: they are gone.
        """
        if work.imported:
            raise NotFound(f"{work.id} was imported, so it was made from no texts known here")
        made = work.result.artifact("texts") if work.result is not None else None
        if made is None:
            return self.read_texts(work.request)
        return self.read_artifact(made.path, made.sha256)

    def read_artifact(self, path: str, sha256: str | None = None) -> bytes:
        """The bytes of an artifact.

        Args:
            sha256: expected digest; None: the caller verifies it.

        Raises:
            NotFound: it is gone.
            CorruptArtifact: it has another digest.
        """
        try:
            data = self.objects.read(path)
        except ObjectMissing:
            raise NotFound(f"the artifact {path} is gone") from None
        if sha256 is not None and sha256 != hashlib.sha256(data).hexdigest():
            raise CorruptArtifact(f"the artifact {path} is not what was written")
        return data

    def log_download(self, work: Work, actor: Actor, **fields: JsonValue) -> None:
        """Log that a file of an edit or an export is about to be downloaded."""
        what = "delta" if work.request.kind == "edit" else work.request.kind
        event, tenant = f"{what}.downloaded", work.request.tenant
        self.reads.log(event, tenant=tenant, actor=actor, id=work.id, **fields)

    def _log(self, place: Place, what: str, actor: Actor, **fields: JsonValue) -> None:
        """Write a line of the audit log, before its event takes effect.

        Raises:
            Unavailable: it cannot be written.
        """
        self.audit.extend([_event(place, what, actor, **fields)])


def _event(place: Place, what: str, actor: Actor, **fields: JsonValue) -> Event:
    return Event(f"{place.kind}.{what}", place.tenant, actor, {"id": place.id, **fields})
