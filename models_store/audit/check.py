"""Read and verify the audit log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from models_store.audit.heads import Head, find_head, place_of, stored_heads
from models_store.audit.log import FIRST, FOLDER, MAX_LINE_BYTES, AuditLine, read_line
from models_store.errors import CorruptArtifact
from models_store.objects.store import ObjectInfo, ObjectMissing, ObjectStore

_READERS = 16

_Chain = dict[int, ObjectInfo]
_Hashes = dict[str, dict[int, str]]


@dataclass(frozen=True)
class Checked:
    """The result of a check."""

    lines: int
    chains: int
    heads: int
    problems: tuple[str, ...]
    """Each names the chain and the number of a line; empty: the log is intact."""


def check_log(objects: ObjectStore, *, heads: Sequence[str] = ()) -> Checked:
    """Verify every chain, and compare the log with earlier heads.

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
    hashes: _Hashes = {}
    with ThreadPoolExecutor(_READERS) as readers:
        for writer, chain in sorted(_chains(objects, problems).items()):
            numbers = sorted(chain)
            read = partial(_read, objects)
            lines = readers.map(read, [chain[n] for n in numbers])
            by_number = dict(zip(numbers, lines, strict=True))
            problems += _broken(writer, by_number)
            hashes[writer] = {
                n: line.hash for n, line in by_number.items() if isinstance(line, AuditLine)
            }
    for head in earlier_heads:
        problems += _missing(head, hashes)
    line_count = sum(map(len, hashes.values()))
    return Checked(line_count, len(hashes), len(earlier_heads), tuple(dict.fromkeys(problems)))


def lines_of(objects: ObjectStore) -> Iterator[AuditLine]:
    """Every readable line, in order of time."""
    infos = [info for chain in _chains(objects, []).values() for info in chain.values()]
    with ThreadPoolExecutor(_READERS) as readers:
        lines = [
            line
            for line in readers.map(partial(_read, objects), infos)
            if isinstance(line, AuditLine)
        ]
    yield from sorted(lines, key=lambda line: (line.at, line.writer, line.n))


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


def _chains(objects: ObjectStore, problems: list[str]) -> dict[str, _Chain]:
    """The objects of each chain by number; any other object is added to `problems`."""
    chains: dict[str, _Chain] = {}
    for info in objects.files(FOLDER):
        try:
            writer, n = place_of(info.path)
        except CorruptArtifact as error:
            problems.append(error.message)
        else:
            chains.setdefault(writer, {})[n] = info
    for writer, chain in chains.items():
        if len(chain) <= max(chain):
            # A listing may miss a line that is written meanwhile, and have the one after it.
            for info in objects.files(f"{FOLDER}/{writer}"):
                try:
                    chain.setdefault(place_of(info.path)[1], info)
                except CorruptArtifact:
                    continue  # a problem already
    return chains


def _read(objects: ObjectStore, info: ObjectInfo) -> AuditLine | str:
    """The line, or what is wrong with it."""
    if info.size > MAX_LINE_BYTES:
        return "it is too large to be a line of the log"
    try:
        return read_line(objects.read(info.path))
    except CorruptArtifact as error:
        return error.message
    except ObjectMissing:
        return "it was removed just now"


def _broken(writer: str, lines: dict[int, AuditLine | str]) -> Iterator[str]:
    """Problems of a chain that was not left as it was written."""
    expected = 0
    previous: str | None = FIRST
    for n, line in sorted(lines.items()):
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
            if (line.writer, line.n) != (writer, n):
                yield f"{here}: it is line {line.n} of the chain {line.writer}, put here"
            elif previous is not None and line.previous != previous:
                yield f"{here}: it does not follow from line {n - 1}: one of the two was replaced"
            previous = line.hash
        expected = n + 1


def _missing(head: Head, hashes: _Hashes) -> Iterator[str]:
    """Lines that a head names and the log no longer has."""
    for writer, (n, digest) in sorted(head.tips.items()):
        chain = hashes.get(writer)
        if chain is None:
            yield f"chain {writer}, lines 0 to {n}: the head {head.hash} knows them; all are gone"
        elif n not in chain:
            yield f"chain {writer}, line {n}: the head {head.hash} knows it, and it is gone"
        elif chain[n] != digest:
            yield f"chain {writer}, line {n}: it is not the one that the head {head.hash} knows"
