"""Segments of the audit log: lines of chains that have ended, together in few large objects.

`audit_segments/{number:08}.jsonl`. The first line names the number, and the SHA-256 of the segment
before it; the others are lines of chains, byte for byte. So a head that names the last segment
covers them all. An object of a chain is deleted once a segment holds its bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import structlog

from models_store.audit.log import FOLDER, MAX_BATCH_BYTES, batch_path, canonical, read_lines
from models_store.errors import CorruptArtifact
from models_store.objects.store import ObjectInfo, ObjectMissing, ObjectStore
from models_store.objects.versions import parse_stored
from models_store.schemas.base import Record

_log = structlog.get_logger()

SEGMENTS = "audit_segments"
ENDED_SECONDS = 2 * 24 * 3600
"""A chain to which nothing was added for so long has ended: processes begin one each day."""
_MOST_BYTES = 8 * 2**20


class SegmentHeader(Record):
    """The first line of a segment."""

    number: int
    previous: str | None
    """SHA-256 of the segment before; None for the first."""


@dataclass(frozen=True)
class Segment:
    number: int
    sha256: str
    previous: str | None
    lines: tuple[bytes, ...]
    """Of chains, as they were written."""


@dataclass(frozen=True)
class Batch:
    """An object of a chain."""

    writer: str
    first: int
    """Number of its first line."""
    info: ObjectInfo


def batches_of(objects: ObjectStore, folder: str = FOLDER) -> Iterator[Batch | CorruptArtifact]:
    """The objects of all chains in order, or what is wrong with one that is no part of a chain."""
    for info in objects.files(folder):
        parts = info.path.split("/")
        number = parts[-1].removesuffix(".json")
        if (
            len(parts) == 3
            and number.isdecimal()
            and info.path == batch_path(parts[1], int(number))
        ):
            yield Batch(parts[1], int(number), info)
        else:
            yield CorruptArtifact(f"{info.path} is no line of the audit log: somebody put it there")


def segment_path(number: int) -> str:
    return f"{SEGMENTS}/{number:08}.jsonl"


def segment_numbers(
    objects: ObjectStore, after: int = -1, *, written_since: float = 0.0
) -> list[int]:
    """The numbers of the segments beyond `after` that were written since then (Unix seconds)."""
    last = segment_path(after) if after >= 0 else None
    listed = objects.files(SEGMENTS, after=last)
    names = (_name(info) for info in listed if info.modified_at >= written_since)
    return [int(name) for name in names if name.isdecimal()]


def _name(info: ObjectInfo) -> str:
    return info.path.rpartition("/")[2].removesuffix(".jsonl")


def read_segment(objects: ObjectStore, number: int) -> Segment:
    """A segment; its chained lines are not verified.

    Raises:
        CorruptArtifact: it is missing, or does not begin as one does.
    """
    try:
        data = objects.read(segment_path(number))
    except ObjectMissing:
        raise CorruptArtifact(f"segment {number} of the audit log was removed") from None
    first, *lines = data.split(b"\n")
    header = parse_stored(SegmentHeader, first, f"the first line of segment {number}")
    if header.number != number:
        raise CorruptArtifact(f"segment {number} is segment {header.number}, put there")
    return Segment(number, hashlib.sha256(data).hexdigest(), header.previous, tuple(lines))


def seal(objects: ObjectStore, now: float, stopped: Callable[[], bool] = lambda: False) -> int:
    """Move chains that have ended into segments.

    Args:
        now: Unix seconds.
        stopped: called before each segment; when true, the rest is left for another day.

    Returns:
        The number of objects that were moved.

    Raises:
        CorruptArtifact: the last segment was changed; nothing is moved after it.
    """
    moved = 0
    for group in _groups(_ended(objects, now)):
        if stopped():
            break
        moved += _move(objects, group)
    return moved


def _ended(objects: ObjectStore, now: float) -> Iterator[Batch]:
    found = (batch for batch in batches_of(objects) if isinstance(batch, Batch))
    for _, chain in groupby(found, key=lambda batch: batch.writer):
        batches = list(chain)
        if max(batch.info.modified_at for batch in batches) < now - ENDED_SECONDS:
            yield from batches


def _groups(batches: Iterator[Batch]) -> Iterator[list[Batch]]:
    """For a segment each."""
    group: list[Batch] = []
    size = 0
    for batch in batches:
        if batch.info.size > MAX_BATCH_BYTES:
            continue  # `scalpel audit verify` reports it
        if group and size + batch.info.size > _MOST_BYTES:
            yield group
            group, size = [], 0
        group.append(batch)
        size += batch.info.size
    if group:
        yield group


def _move(objects: ObjectStore, group: Sequence[Batch]) -> int:
    """Write a segment with all that the last one does not hold already, since it was interrupted
    before it could remove them; then remove them."""
    numbers = segment_numbers(objects)
    last = read_segment(objects, numbers[-1]) if numbers else None
    held = set(last.lines) if last is not None else set()
    found = zip(group, objects.in_parallel(partial(_sound, objects), group), strict=True)
    sound = {batch.info.path: lines for batch, lines in found if lines is not None}
    new = [line for lines in sound.values() if not held.issuperset(lines) for line in lines]
    if new:
        number, previous = (last.number + 1, last.sha256) if last is not None else (0, None)
        header = canonical(SegmentHeader(number=number, previous=previous).model_dump(mode="json"))
        data = b"\n".join([header, *new])
        objects.create(segment_path(number), data)
        if objects.read(segment_path(number)) != data:
            return 0  # another process was faster
    return sum(1 for _ in objects.in_parallel(objects.delete, sound))


def _sound(objects: ObjectStore, batch: Batch) -> list[bytes] | None:
    """The lines of an object; None where it was changed, which is left for a check to find."""
    try:
        data = objects.read(batch.info.path)
        read_lines(data)
    except ObjectMissing:
        return None
    except CorruptArtifact as error:
        _log.error("the audit log was changed", path=batch.info.path, error=error.message)
        return None
    return data.split(b"\n")
