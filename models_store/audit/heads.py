"""Heads of the audit log: one hash that covers every chain up to its last line.

A head is the SHA-256 of its record, `audit_heads/{at:015}-{hash}.json`. The record holds the last
line of every chain that has grown since the previous head, and the hash of that head. So whoever
keeps a hash can detect that a record, or a line that it covers, was removed or changed.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import Field

from models_store.audit.log import FOLDER, canonical, line_path, read_line
from models_store.errors import CorruptArtifact, InvalidRequest
from models_store.objects.store import ObjectMissing, ObjectStore
from models_store.schemas.base import Record

HEADS = "audit_heads"
MOST_DEPTH = 200
"""After so many heads that build on one another, one holds every chain again."""

Tips = Mapping[str, tuple[int, str]]
"""Number and hash of each chain's last line."""


class HeadRecord(Record):
    at: int
    """Unix milliseconds, strictly increasing."""
    previous: str | None = None
    """The head that this one adds to."""
    depth: int = 0
    """How many heads it builds on."""
    tips: dict[str, tuple[int, str]] = Field(default_factory=dict)
    """Of the chains that have grown since `previous`."""

    def to_bytes(self) -> bytes:
        return canonical(self.model_dump(mode="json"))


@dataclass(frozen=True)
class Head:
    hash: str
    at: int
    depth: int
    tips: Tips

    @property
    def lines(self) -> int:
        return sum(n + 1 for n, _ in self.tips.values())


def numbers_of(objects: ObjectStore) -> dict[str, list[int]]:
    """The numbers of the lines of each chain, sorted.

    Raises:
        CorruptArtifact: there is another object among them.
    """
    numbers: dict[str, list[int]] = {}
    for info in objects.files(FOLDER):
        writer, n = place_of(info.path)
        numbers.setdefault(writer, []).append(n)
    return numbers


def place_of(path: str) -> tuple[str, int]:
    """Chain and number of the line under a path.

    Raises:
        CorruptArtifact: it is not the path of a line.
    """
    parts = path.split("/")
    number = parts[-1].removesuffix(".json")
    if len(parts) == 3 and number.isdecimal() and path == line_path(parts[1], int(number)):
        return parts[1], int(number)
    raise CorruptArtifact(f"{path} is no line of the audit log: somebody put it there")


def make_head(objects: ObjectStore, *, most_depth: int = MOST_DEPTH) -> Head:
    """Record the head of the log as it is now; the newest head where nothing was added since.

    Args:
        most_depth: of heads that build on one another; the next holds every chain again.

    Raises:
        CorruptArtifact: a chain that the newest head covers was truncated or removed.
        Unavailable: the store is away.
    """
    before = newest_head(objects)
    numbers = numbers_of(objects)
    old_tips: Tips = before.tips if before is not None else {}
    for writer, (n, _) in old_tips.items():
        if n not in numbers.get(writer, ()):
            raise CorruptArtifact(f"line {n} of the chain {writer} was removed from the audit log")
    grown = {
        writer: (last, _hash_of(objects, writer, last))
        for writer, (*_, last) in numbers.items()
        if writer not in old_tips or last > old_tips[writer][0]
    }
    if before is not None and not grown:
        return before
    tips = {**old_tips, **grown}
    chained = before if before is not None and before.depth < most_depth else None
    record = HeadRecord(
        at=max(int(time.time() * 1000), 0 if before is None else before.at + 1),
        previous=None if chained is None else chained.hash,
        depth=0 if chained is None else chained.depth + 1,
        tips=tips if chained is None else grown,
    )
    data = record.to_bytes()
    digest = hashlib.sha256(data).hexdigest()
    objects.create(f"{HEADS}/{record.at:015}-{digest}.json", data)
    return Head(digest, record.at, record.depth, tips)


def newest_head(objects: ObjectStore) -> Head | None:
    names = objects.children(HEADS)
    return _resolve(objects, names, _digest(names[-1])) if names else None


def find_head(objects: ObjectStore, digest: str) -> Head:
    """The head with that hash.

    Raises:
        InvalidRequest: it is not a hash.
        CorruptArtifact: its record, or that of a head that it builds on, is missing or changed.
    """
    digest = digest.strip().lower()
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise InvalidRequest("a head is 64 hexadecimal digits, as `scalpel audit head` prints them")
    return _resolve(objects, objects.children(HEADS), digest)


def stored_heads(objects: ObjectStore) -> Iterator[Head | CorruptArtifact]:
    """Every recorded head, with the tips that it adds to the one before, or its error."""
    names = objects.children(HEADS)
    digests = {_digest(name) for name in names}
    for name in names:
        digest = _digest(name)
        try:
            record = _read(objects, name, digest)
            if record.previous is not None and record.previous not in digests:
                raise _gone(record.previous)
            yield Head(digest, record.at, record.depth, record.tips)
        except CorruptArtifact as error:
            yield error


def _resolve(objects: ObjectStore, names: list[str], digest: str) -> Head:
    by_digest = {_digest(name): name for name in names}
    records: list[HeadRecord] = []
    wanted: str | None = digest
    while wanted is not None:
        record = _read(objects, by_digest.get(wanted), wanted)
        if records and record.depth != records[-1].depth - 1:
            raise CorruptArtifact(f"the record of the head {wanted} is not what it must be")
        records.append(record)
        wanted = record.previous
    tips: dict[str, tuple[int, str]] = {}
    for record in reversed(records):
        tips.update(record.tips)
    return Head(digest, records[0].at, records[0].depth, tips)


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


def _hash_of(objects: ObjectStore, writer: str, n: int) -> str:
    try:
        line = read_line(objects.read(line_path(writer, n)))
    except (CorruptArtifact, ObjectMissing) as error:
        raise CorruptArtifact(f"line {n} of the chain {writer}: {error}") from error
    return line.hash
