"""Read and verify the audit log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from models_store.audit.heads import Head, find_head, stored_heads
from models_store.audit.log import FIRST, FOLDER, MAX_BATCH_BYTES, AuditLine, read_line
from models_store.audit.segments import (
    Batch,
    Segment,
    batches_of,
    read_segment,
    segment_numbers,
)
from models_store.errors import CorruptArtifact
from models_store.objects.store import ObjectMissing, ObjectStore

_CLOCKS_DIFFER_SECONDS = 24 * 3600
_Lines = dict[int, "_Link | str"]
"""Of a chain by number, or what is wrong with each."""


@dataclass(frozen=True, slots=True)
class _Link:
    """What is remembered of a line: at a million of them its fields would be too much."""

    hash: str
    previous: str
    place: tuple[str, int]
    """Chain and number that it says of itself."""


@dataclass(frozen=True)
class Checked:
    """The result of a check."""

    lines: int
    chains: int
    heads: int
    problems: tuple[str, ...]
    """Each names the chain and the number of a line; empty: the log is intact."""


def check_log(objects: ObjectStore, *, heads: Sequence[str] = ()) -> Checked:
    """Verify every chain and every segment, and compare the log with earlier heads.

    Args:
        heads: hashes kept elsewhere; each must be the head of a prefix of the log. Heads recorded
            in the store are checked too, but whoever truncates the log could remove those.

    Raises:
        InvalidRequest: one of `heads` is not a hash.
        Unavailable: the store is away.
    """
    problems: list[str] = []
    # Heads first: the log may grow meanwhile, but never shrinks.
    earlier_heads = list(_heads(objects, heads, problems))
    chains: dict[str, _Lines] = {}
    for batch, lines in _batches(objects, problems):
        _put_in(chains.setdefault(batch.writer, {}), batch.first, lines)
    # After the batches: what was moved meanwhile is seen twice, not missed.
    digests = _read_segments(objects, chains, problems)
    for writer, chain in chains.items():
        if len(chain) <= max(chain):
            # A listing may miss what is written meanwhile, and have what comes after it.
            for batch, lines in _batches(objects, [], f"{FOLDER}/{writer}"):
                _put_in(chain, batch.first, lines)
    for writer, chain in sorted(chains.items()):
        problems += _broken(writer, chain)
    for head in earlier_heads:
        problems += _missing(head, chains)
        problems += _missing_segment(head, digests)
    count = sum(isinstance(line, _Link) for chain in chains.values() for line in chain.values())
    return Checked(count, len(chains), len(earlier_heads), tuple(dict.fromkeys(problems)))


def lines_of(objects: ObjectStore, since: float = 0.0) -> Iterator[AuditLine]:
    """Every readable line, in order of time.

    Args:
        since: Unix seconds; lines before are left out.
    """
    found: dict[str, AuditLine] = {}
    for _, lines in _batches(objects, [], since=since):
        found |= {line.hash: line for line in lines if isinstance(line, AuditLine)}
    for segment in _segments(objects, [], since):
        lines = list(map(_line, segment.lines))
        found |= {line.hash: line for line in lines if isinstance(line, AuditLine)}
    kept = (line for line in found.values() if line.at >= since)
    yield from sorted(kept, key=lambda line: (line.at, line.writer, line.n))


def _heads(objects: ObjectStore, kept: Sequence[str], problems: list[str]) -> Iterator[Head]:
    for digest in kept:
        try:
            yield find_head(objects, digest)
        except CorruptArtifact as error:
            problems.append(error.message)
    for head in stored_heads(objects):
        if isinstance(head, Head):
            yield head
        else:
            problems.append(head.message)


def _batches(
    objects: ObjectStore, problems: list[str], folder: str = FOLDER, since: float = 0.0
) -> Iterator[tuple[Batch, list[AuditLine | str]]]:
    """The objects of chains with their lines; any other object is added to `problems`."""
    found: list[Batch] = []
    for batch in batches_of(objects, folder):
        if isinstance(batch, CorruptArtifact):
            problems.append(batch.message)
        elif batch.info.modified_at >= since - _CLOCKS_DIFFER_SECONDS:
            found.append(batch)
    read = objects.in_parallel(partial(_read, objects), found)
    for batch, lines in zip(found, read, strict=True):
        if lines is not None:
            yield batch, lines


def _read(objects: ObjectStore, batch: Batch) -> list[AuditLine | str] | None:
    """The lines of a batch, or what is wrong with each; None if it was moved into a segment."""
    if batch.info.size > MAX_BATCH_BYTES:
        return ["it is too large to be a line of the log"]
    try:
        return [_line(data) for data in objects.read(batch.info.path).split(b"\n")]
    except ObjectMissing:
        return None


def _line(data: bytes) -> AuditLine | str:
    try:
        return read_line(data)
    except CorruptArtifact as error:
        return error.message


def _put_in(chain: _Lines, first: int, lines: Iterable[AuditLine | str]) -> None:
    """Put lines into their chain from number `first` on."""
    for n, line in enumerate(lines, first):
        link: _Link | str = (
            _Link(line.hash, line.previous, (line.writer, line.n))
            if isinstance(line, AuditLine)
            else line
        )
        if chain.setdefault(n, link) != link:
            chain[n] = "two different lines have this number"


def _segments(objects: ObjectStore, problems: list[str], since: float = 0.0) -> Iterator[Segment]:
    """The segments that can be read and may have lines since then."""
    for number in segment_numbers(objects, written_since=since - _CLOCKS_DIFFER_SECONDS):
        try:
            yield read_segment(objects, number)
        except CorruptArtifact as error:
            problems.append(error.message)


def _read_segments(
    objects: ObjectStore, chains: dict[str, _Lines], problems: list[str]
) -> dict[int, str]:
    """Put the lines of segments into their chains; the SHA-256 of each segment by number."""
    digests: dict[int, str] = {}
    previous: str | None = None
    for segment in _segments(objects, problems):
        here = f"segment {segment.number}"
        if segment.number != len(digests):
            problems.append(f"{here}: it is number {len(digests)} of those that can be read")
        if segment.previous != previous:
            problems.append(f"{here}: it does not follow from the one before")
        digests[segment.number] = previous = segment.sha256
        for row, data in enumerate(segment.lines, 1):
            line = _line(data)
            if isinstance(line, str):
                problems.append(f"{here}, line {row}: {line}")
                continue
            _put_in(chains.setdefault(line.writer, {}), line.n, [line])
    return digests


def _missing_segment(head: Head, digests: dict[int, str]) -> Iterator[str]:
    if head.sealed is not None and digests.get(head.sealed[0]) != head.sealed[1]:
        yield f"segment {head.sealed[0]}: it is not the one that the head {head.hash} knows"


def _broken(writer: str, chain: _Lines) -> Iterator[str]:
    """Problems of a chain that was not left as it was written."""
    expected = 0
    previous: str | None = FIRST
    for n, line in sorted(chain.items()):
        here = f"chain {writer}, line {n}"
        if n == expected + 1:
            yield f"chain {writer}, line {expected}: it was removed"
        elif n > expected:
            yield f"chain {writer}, lines {expected} to {n - 1}: they were removed"
        if n > expected:
            previous = None
        if isinstance(line, str):
            yield f"{here}: {line}"
            previous = None
        else:
            if line.place != (writer, n):
                yield f"{here}: it is line {line.place[1]} of the chain {line.place[0]}, put here"
            elif previous is not None and line.previous != previous:
                yield f"{here}: it does not follow from line {n - 1}: one of the two was replaced"
            previous = line.hash
        expected = n + 1


def _missing(head: Head, chains: dict[str, _Lines]) -> Iterator[str]:
    """Lines that a head names and the log no longer has."""
    for writer, (n, digest, _) in sorted(head.tips.items()):
        chain = chains.get(writer)
        if chain is None:
            yield f"chain {writer}, lines 0 to {n}: the head {head.hash} knows them; all are gone"
        elif n not in chain:
            yield f"chain {writer}, line {n}: the head {head.hash} knows it, and it is gone"
        elif not isinstance(line := chain[n], _Link) or line.hash != digest:
            yield f"chain {writer}, line {n}: it is not the one that the head {head.hash} knows"
