"""Heads of the audit log: one hash that covers all of it, up to the last line of every chain.

A head is the SHA-256 of its record, `audit_heads/{at:015}-{hash}.json`. The record holds the last
line of every chain that has grown since the previous head, the last segment, and the hash of that
head. So whoever keeps a hash can detect that a record, or a line that it covers, was removed or
changed.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import Field

from models_store.audit.log import canonical, read_line, read_lines
from models_store.audit.segments import Batch, batches_of, read_segment, segment_numbers
from models_store.errors import CorruptArtifact, InvalidRequest
from models_store.objects.store import ObjectMissing, ObjectStore
from models_store.schemas.base import Record

HEADS = "audit_heads"
MOST_DEPTH = 200
"""After so many heads that build on one another, one holds every chain again."""


class Tip(NamedTuple):
    """The last line of a chain."""

    n: int
    hash: str
    first: int | None = None
    """Number of the first line of the object that holds it; None: it holds this one alone."""


Tips = Mapping[str, Tip]
"""By chain."""
Sealed = tuple[int, str]
"""Number and SHA-256 of a segment, which cover those before it."""


class HeadRecord(Record):
    at: int
    """Unix milliseconds, strictly increasing."""
    previous: str | None = None
    """The head that this one adds to."""
    depth: int = 0
    """How many heads it builds on."""
    tips: dict[str, Tip] = Field(default_factory=dict)
    """Of the chains that have grown since `previous`; of all outside segments without one."""
    sealed: Sealed | None = None
    """The last segment."""

    def to_bytes(self) -> bytes:
        return canonical(self.model_dump(mode="json"))


@dataclass(frozen=True)
class Head:
    hash: str
    at: int
    depth: int
    tips: Tips
    sealed: Sealed | None = None

    @property
    def name(self) -> str:
        return f"{self.at:015}-{self.hash}.json"


def make_head(
    objects: ObjectStore, known: Head | None = None, *, most_depth: int = MOST_DEPTH
) -> Head:
    """Record the head of the log as it is now; the newest head where nothing was added since.

    Args:
        known: an earlier head; with it only what came since is read.
        most_depth: of heads that build on one another; the next holds every chain again.

    Raises:
        CorruptArtifact: a chain that the newest head covers was truncated or removed.
        Unavailable: the store is away.
    """
    before = newest_head(objects, known)
    old = before.tips if before is not None else {}
    objects_of = _objects_of(objects)
    grown: dict[str, Tip] = {}
    for writer, firsts in objects_of.items():
        if writer not in old or max(firsts) > old[writer].n:
            grown |= _tip(objects, firsts[max(firsts)])
    # Looked at last: what was moved into one meanwhile is in it.
    sealed, ends = _new_segments(objects, before)
    gone = {
        writer: tip.n
        for writer, tip in old.items()
        if (tip.n if tip.first is None else tip.first) not in objects_of.get(writer, ())
    }
    if any(ends.get(writer, -1) < n for writer, n in gone.items()):
        # It was made after a segment was written, and before the objects that it holds were gone.
        _, ends = _new_segments(objects, None)
    for writer, n in gone.items():
        if ends.get(writer, -1) < n:
            raise CorruptArtifact(f"line {n} of the chain {writer} was removed from the audit log")
    if before is not None and not grown and sealed == before.sealed:
        return before
    tips = {writer: tip for writer, tip in old.items() if writer in objects_of} | grown
    builds_on = before if before is not None and before.depth < most_depth else None
    if len(tips) < len(old.keys() | grown.keys()):
        builds_on = None  # chains went into segments
    record = HeadRecord(
        at=max(int(time.time() * 1000), 0 if before is None else before.at + 1),
        previous=None if builds_on is None else builds_on.hash,
        depth=0 if builds_on is None else builds_on.depth + 1,
        tips=tips if builds_on is None else grown,
        sealed=sealed,
    )
    data = record.to_bytes()
    head = Head(hashlib.sha256(data).hexdigest(), record.at, record.depth, tips, sealed)
    objects.create(f"{HEADS}/{head.name}", data)
    return head


def _objects_of(objects: ObjectStore) -> dict[str, dict[int, Batch]]:
    """The objects of each chain by the number of their first line.

    Raises:
        CorruptArtifact: there is another object among them.
    """
    found: dict[str, dict[int, Batch]] = {}
    for batch in batches_of(objects):
        if isinstance(batch, CorruptArtifact):
            raise batch
        found.setdefault(batch.writer, {})[batch.first] = batch
    return found


def _tip(objects: ObjectStore, batch: Batch) -> dict[str, Tip]:
    """Of the chain that ends with that object; none if it was moved into a segment meanwhile."""
    try:
        last = read_lines(objects.read(batch.info.path))[-1]
    except ObjectMissing:
        return {}
    except CorruptArtifact as error:
        raise CorruptArtifact(
            f"the end of the chain {batch.writer} of the audit log: {error.message}"
        ) from error
    return {batch.writer: Tip(last.n, last.hash, batch.first)}


def _new_segments(
    objects: ObjectStore, before: Head | None
) -> tuple[Sealed | None, dict[str, int]]:
    """The last segment, and where chains end in those that an earlier head does not cover."""
    sealed = before.sealed if before is not None else None
    ends: dict[str, int] = {}
    for number in segment_numbers(objects, -1 if sealed is None else sealed[0]):
        segment = read_segment(objects, number)
        if segment.previous != (None if sealed is None else sealed[1]):
            raise CorruptArtifact(f"segment {number} of the audit log does not follow the last one")
        sealed = number, segment.sha256
        for line in map(read_line, segment.lines):
            ends[line.writer] = max(line.n, ends.get(line.writer, -1))
    return sealed, ends


def newest_head(objects: ObjectStore, known: Head | None = None) -> Head | None:
    """The newest head.

    Args:
        known: an earlier head; with it only the records after its own are read.
    """
    names = _names(objects, known)
    if not names:
        return known
    digest = _digest(names[-1])
    if known is not None:
        try:
            return _resolve(objects, names, digest, known)
        except CorruptArtifact:
            names = _names(objects)  # it builds on another head than this one
    return _resolve(objects, names, digest)


def _names(objects: ObjectStore, after: Head | None = None) -> list[str]:
    last = f"{HEADS}/{after.name}" if after is not None else None
    return [info.path.rpartition("/")[2] for info in objects.files(HEADS, after=last)]


def find_head(objects: ObjectStore, digest: str) -> Head:
    """The head with that hash.

    Raises:
        InvalidRequest: it is not a hash.
        CorruptArtifact: its record, or that of a head that it builds on, is missing or changed.
    """
    digest = digest.strip().lower()
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise InvalidRequest("a head is 64 hexadecimal digits, as `scalpel audit head` prints them")
    return _resolve(objects, _names(objects), digest)


def stored_heads(objects: ObjectStore) -> Iterator[Head | CorruptArtifact]:
    """Every recorded head, with the tips that it adds to the one before, or its error."""
    names = _names(objects)
    digests = {_digest(name) for name in names}
    for name in names:
        digest = _digest(name)
        try:
            record = _read(objects, name, digest)
            if record.previous is not None and record.previous not in digests:
                raise _gone(record.previous)
            yield Head(digest, record.at, record.depth, record.tips, record.sealed)
        except CorruptArtifact as error:
            yield error


def _resolve(
    objects: ObjectStore, names: list[str], digest: str, known: Head | None = None
) -> Head:
    by_digest = {_digest(name): name for name in names}
    records: list[HeadRecord] = []
    wanted: str | None = digest
    while wanted is not None and (known is None or wanted != known.hash):
        record = _read(objects, by_digest.get(wanted), wanted)
        if records and record.depth != records[-1].depth - 1:
            raise CorruptArtifact(f"the record of the head {wanted} is not what it must be")
        records.append(record)
        wanted = record.previous
    tips = dict(known.tips) if known is not None and wanted is not None else {}
    for record in reversed(records):
        tips.update(record.tips)
    newest = records[0]
    return Head(digest, newest.at, newest.depth, tips, newest.sealed)


def _read(objects: ObjectStore, name: str | None, digest: str) -> HeadRecord:
    if name is None:
        raise _gone(digest)
    try:
        data = objects.read(f"{HEADS}/{name}")
    except ObjectMissing:
        raise _gone(digest) from None
    if hashlib.sha256(data).hexdigest() != digest:
        raise CorruptArtifact(f"the record of the head {digest} was changed")
    try:
        return HeadRecord.model_validate_json(data)
    except ValueError as error:
        raise CorruptArtifact(f"the record of the head {digest} cannot be read") from error


def _gone(digest: str) -> CorruptArtifact:
    return CorruptArtifact(
        f"there is no record of the head {digest}: it was removed, or is of another store"
    )


def _digest(name: str) -> str:
    return name.removesuffix(".json").rpartition("-")[2]
