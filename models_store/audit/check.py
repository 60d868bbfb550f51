"""Reading the audit log: whether it is whole, and what is in it."""

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
    """What a check found."""

    lines: int
    chains: int
    heads: int
    problems: tuple[str, ...]
    """Each names the chain and the number of a line; none: the log is whole."""


def check_log(objects: ObjectStore, *, heads: Sequence[str] = ()) -> Checked:
    """Walk every chain, and hold the log against heads told before.

    Args:
        heads: hashes that were kept; each must be of a beginning of today's log. Those that the
            store has records of are looked at too, but whoever cuts the log may remove them: a
            head kept elsewhere may not.

    Raises:
        InvalidRequest: that is no hash.
        Unavailable: the store is away.
    """
    problems: list[str] = []
    # Heads first: a log grows meanwhile, but never shrinks.
    told = list(_heads(objects, heads, problems))
    hashes: _Hashes = {}
    with ThreadPoolExecutor(_READERS) as readers:
        for writer, chain in sorted(_chains(objects, problems).items()):
            numbers = sorted(chain)
            read = partial(_read, objects)
            lines = readers.map(read, [chain[n] for n in numbers])
            found = dict(zip(numbers, lines, strict=True))
            problems += _broken(writer, found)
            hashes[writer] = {n: one.hash for n, one in found.items() if isinstance(one, AuditLine)}
    for head in told:
        problems += _missing(head, hashes)
    lines_found = sum(len(own) for own in hashes.values())
    return Checked(lines_found, len(hashes), len(told), tuple(dict.fromkeys(problems)))


def lines_of(objects: ObjectStore) -> Iterator[AuditLine]:
    """Every line that can be read, in order of time."""
    infos = [info for chain in _chains(objects, []).values() for info in chain.values()]
    with ThreadPoolExecutor(_READERS) as readers:
        found = [
            line
            for line in readers.map(partial(_read, objects), infos)
            if isinstance(line, AuditLine)
        ]
    yield from sorted(found, key=lambda line: (line.at, line.writer, line.n))


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
    """The objects of each chain by number; what is none of them is a problem."""
    found: dict[str, _Chain] = {}
    for info in objects.files(FOLDER):
        try:
            writer, n = place_of(info.path)
        except CorruptArtifact as error:
            problems.append(error.message)
        else:
            found.setdefault(writer, {})[n] = info
    for writer, chain in found.items():
        if len(chain) <= max(chain):
            # A listing may miss a line that is written meanwhile, and have the one after it.
            for info in objects.files(f"{FOLDER}/{writer}"):
                try:
                    chain.setdefault(place_of(info.path)[1], info)
                except CorruptArtifact:
                    continue  # told above
    return found


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
    """Where a chain is not as it was written."""
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
    """What a head knows that the log no longer has."""
    for writer, (n, digest) in sorted(head.tips.items()):
        own = hashes.get(writer)
        if own is None:
            yield f"chain {writer}, lines 0 to {n}: the head {head.hash} knows them; all are gone"
        elif n not in own:
            yield f"chain {writer}, line {n}: the head {head.hash} knows it, and it is gone"
        elif own[n] != digest:
            yield f"chain {writer}, line {n}: it is not the one that the head {head.hash} knows"
