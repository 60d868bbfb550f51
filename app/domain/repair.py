"""Records that can no longer be read: find them, and put them aside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ConfigDict

from models_store.errors import CorruptArtifact, NewerRecord
from models_store.objects.store import MARKER, ObjectMissing, ObjectStore
from models_store.schemas.base import Record
from models_store.schemas.records import (
    AttemptEnd,
    Claim,
    Deleted,
    IdempotencyRecord,
    Result,
    Summary,
    WorkRequest,
)
from models_store.work.store import FOLDERS

QUARANTINE = "quarantine"
_LEFT_OUT = {QUARANTINE, "audit", "audit_heads", "audit_segments", "cache", "open", "probe"}
"""Folders without records, and the audit log, which `scalpel audit verify` checks."""
_WORK: dict[str, type[Record]] = {
    "request.json": WorkRequest,
    "result.json": Result,
    "deleted.json": Deleted,
    "summary.json": Summary,
    "claim.json": Claim,
    "end.json": AttemptEnd,
}


class _AnyRecord(Record):
    model_config = ConfigDict(extra="allow")


@dataclass(frozen=True)
class Damaged:
    path: str
    problem: str


def find_damaged(objects: ObjectStore) -> Iterator[Damaged]:
    """Every record that cannot be read, by path.

    Raises:
        Unavailable: the store is away.
    """
    for folder in objects.children(""):
        if folder in _LEFT_OUT:
            continue
        for path in [folder] if folder.endswith(".json") else objects.paths(folder):
            kind = _kind_of(path)
            if kind is None:
                continue
            try:
                objects.read_record(path, kind)
            except NewerRecord:
                continue  # whole, and read by a later version
            except CorruptArtifact as error:
                yield Damaged(path, error.message)


def quarantine(objects: ObjectStore, damaged: Damaged) -> list[str]:
    """Move a damaged record to the folder `quarantine`, with what is of no use without it: of a
    request its whole work, of a claim or an end its attempt's other record; and the summary, which
    repeats them.

    The rest then goes on: an edit without a result is completed from its last attempt or done
    again, and an alias is what it was a version earlier.

    Returns:
        The paths that were moved.
    """
    folder, _, name = damaged.path.rpartition("/")
    paths = [damaged.path]
    if damaged.path.partition("/")[0] in FOLDERS.values():
        if name == "request.json":
            paths = objects.paths(folder)
        elif name in ("claim.json", "end.json"):
            paths = [f"{folder}/claim.json", f"{folder}/end.json"]
            paths.append(f"{folder.rpartition('/attempts/')[0]}/summary.json")
        elif name == "result.json":
            paths.append(f"{folder}/summary.json")
    moved = []
    for path in paths:
        try:
            objects.put(f"{QUARANTINE}/{path}", objects.read(path))
        except ObjectMissing:
            continue
        if path == MARKER:
            objects.renew_marker()
        else:
            objects.delete(path)
        moved.append(path)
    return moved


def _kind_of(path: str) -> type[Record] | None:
    """What is stored there; None for artifacts."""
    top, name = path.partition("/")[0], path.rpartition("/")[2]
    if top in FOLDERS.values():
        return _WORK.get(name)
    if top == "idempotency":
        return IdempotencyRecord
    return _AnyRecord if name.endswith(".json") else None
