"""Check the store at the end, from its objects alone."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from app.loops.keeper.sweep import sweep
from models_store.errors import NotFound, ScalpelError
from models_store.objects.store import ObjectMissing, ObjectStore
from models_store.schemas.records import EditSettings, IdempotencyRecord, Kind
from models_store.work.reservations import Reservation
from models_store.work.store import FOLDERS, Place, Work, WorkStore
from tests.system.chaos.faults import Done

_DAYS = 2 * 24 * 3600
_OF_WORK = ("open", "outbox", "idempotency", "suffixes", "probe", *FOLDERS.values())
"""Folders of objects that belong to pieces of work."""


def all_work(store: WorkStore) -> list[tuple[Place, Work]]:
    """All work, of every kind and tenant."""
    works = []
    kinds: list[Kind] = list(FOLDERS)
    for kind in kinds:
        for tenant in store.objects.children(FOLDERS[kind]):
            for id in store.list_ids(kind, tenant):
                work = store.find(Place(kind, tenant, id))
                if work is not None:
                    works.append((Place(kind, tenant, id), work))
    return works


def published_after_their_end(works: Iterable[Work]) -> list[str]:
    """Work whose result is not that of its only successful attempt."""
    return [work.id for work in works if not _is_sound(work)]


def _is_sound(work: Work) -> bool:
    if work.result is None:
        return True
    succeeded = [end for end in work.ends if end is not None and end.outcome == "succeeded"]
    if work.result.status != "succeeded":
        return not work.result.artifacts or work.result.status == "failed"
    return (
        [end.attempt for end in succeeded] == [work.result.attempt]
        and succeeded[0].artifacts == work.result.artifacts
        and all(f"/attempts/{work.result.attempt}/" in it.path for it in work.result.artifacts)
    )


def torn(objects: ObjectStore, works: Iterable[Work]) -> list[str]:
    """Artifacts that are missing, or differ from their record."""
    return [
        artifact.path
        for work in works
        if work.result is not None
        for artifact in work.result.artifacts
        if not _is_whole(objects, artifact.path, artifact.sha256, artifact.bytes)
    ]


def _is_whole(objects: ObjectStore, path: str, sha256: str, size: int) -> bool:
    try:
        data = objects.read(path)
    except ObjectMissing:
        return False
    return (hashlib.sha256(data).hexdigest(), len(data)) == (sha256.removeprefix("sha256:"), size)


def orphans_after_a_sweep(store: WorkStore) -> list[str]:
    """Objects that a sweep some days later leaves although nothing refers to them."""
    sweep(store, lambda: False, time.time() + _DAYS)
    return sorted(_orphans(store))


def _orphans(store: WorkStore) -> Iterator[str]:
    named: set[str] = set()
    works = all_work(store)
    for place, work in works:
        names = ["request.json", "texts.jsonl", "result.json", "summary.json"]
        for claim in work.claims:
            names += [f"attempts/{claim.attempt}/{name}.json" for name in ("claim", "end")]
        settings = work.request.settings
        if isinstance(settings, EditSettings) and settings.source is not None:
            names += [f"source/{file.name}" for file in settings.source.files]
        named |= {f"{place.folder}/{name}" for name in names}
        if work.result is None:
            named |= {place.marker, *(info.path for info in store.objects.files(place.folder))}
        else:
            named |= {path for artifact in work.result.artifacts for path in artifact.paths}
    ids = {place.id for place, _ in works}
    for info in store.objects.files(""):
        top = info.path.partition("/")[0]
        if top not in _OF_WORK or info.path in named:
            continue
        if top == "idempotency" and _leads(store, info.path, IdempotencyRecord, ids):
            continue
        if top == "suffixes" and _suffix_leads(store, info.path, ids):
            continue
        yield info.path
    root = store.objects.root
    if root is not None:
        yield from (str(path.relative_to(root)) for path in root.rglob("*#*"))


def _leads(store: WorkStore, path: str, kind: type[IdempotencyRecord], ids: set[str]) -> bool:
    record = store.objects.read_record(path, kind)
    return record is not None and record.id in ids


def _suffix_leads(store: WorkStore, path: str, ids: set[str]) -> bool:
    """Whether it is an older version, a deletion, or held by existing work."""
    folder, _, name = path.rpartition("/")
    if name != store.objects.children(folder)[-1]:
        return True
    record = store.objects.read_record(path, Reservation)
    return record is not None and (record.deleted or record.work_id in ids)


@dataclass(frozen=True)
class Recovery:
    """How long it took after a fault until work went on."""

    kind: str
    seconds: float


def recoveries(works: Sequence[Work], faults: Sequence[Done]) -> list[Recovery]:
    """Times of recovery: after a fault that hit an attempt, until the next claim or result of its
    work; after the end of another fault, until the next claim or result of any open work."""
    recovered = []
    for fault in faults:
        if fault.kind == "clients vanish":
            continue
        hit = [work for work in works if _was_hit(work, fault)] if fault.pid else list(works)
        since = fault.at if fault.pid else fault.until
        open_ = [work for work in hit if work.request.created_at <= since < _ended(work)]
        signs = [at for work in open_ for at in _signs(work) if at > since]
        if signs:
            recovered.append(Recovery(fault.kind, min(signs) - since))
    return recovered


def _was_hit(work: Work, fault: Done) -> bool:
    """Whether an attempt was running in the process or in a child of it."""
    return any(
        claim.claimed_at <= fault.at < (end.ended_at if end is not None else float("inf"))
        and (claim.pid == fault.pid or claim.worker.split("-")[-2] == str(fault.pid))
        for claim, end in zip(work.claims, work.ends, strict=True)
    )


def _ended(work: Work) -> float:
    return work.result.finished_at if work.result is not None else float("inf")


def _signs(work: Work) -> Iterator[float]:
    yield from (claim.claimed_at for claim in work.claims)
    if work.result is not None:
        yield work.result.finished_at


def lost(store: WorkStore, ids: Iterable[str]) -> list[str]:
    """Those of the ids whose edits are missing, or have no result."""
    missing = []
    for id in ids:
        try:
            work = store.read("edit", "default", id)
        except (NotFound, ScalpelError):
            missing.append(id)
            continue
        if work.result is None:
            missing.append(id)
    return missing


def median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else float("nan")
