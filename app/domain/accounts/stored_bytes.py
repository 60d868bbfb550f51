"""How many bytes of a tenant are in the store, without looking again at what has settled."""

from __future__ import annotations

import time

from models_store.ids import bucket_at, bucket_of
from models_store.objects.store import ObjectStore, readable
from models_store.schemas.records import WorkRequest
from models_store.work.store import FOLDERS, Place, kind_of

_OTHERS = ("behaviors", "files", "aliases", "webhooks")
_LATE_SECONDS = 3600.0
"""A new id may be older than it is put in: it is made first, and clocks differ."""


class StoredBytes:
    """Bytes of one tenant's edits, exports, behaviours, files, aliases and webhooks.

    A bucket of work has settled once no new id falls into it and all of its work has ended: from
    then on it can only shrink, so its size is remembered. A count therefore takes as long as there
    is new and open work, however much is stored. What open work has announced, and not
    written yet, counts as if it were there.
    """

    def __init__(self, objects: ObjectStore, tenant: str) -> None:
        self._objects = objects
        self._tenant = tenant
        self._settled: dict[str, int] = {}
        """Bytes by folder of a bucket."""
        self._announced: dict[Place, int] = {}
        """Bytes by open work."""

    def count(self, whole: bool) -> int:
        """The bytes there are, or were when their bucket had settled.

        Args:
            whole: look at everything, so as to see what was deleted meanwhile.
        """
        if whole:
            self._settled.clear()
        # Looked at before sizes are: what ends in between is counted once more.
        open_work = self._open_work()
        growing = {bucket_of(place.id) for place in open_work}
        newest = bucket_at(time.time() - _LATE_SECONDS)
        others = (f"{folder}/{self._tenant}" for folder in _OTHERS)
        total = sum(self._objects.in_parallel(self._objects.size, others))
        total += self._to_come(open_work)
        for folder in (FOLDERS["edit"], FOLDERS["export"]):
            root = f"{folder}/{self._tenant}"
            paths = {f"{root}/{bucket}": bucket for bucket in self._objects.children(root)}
            new = [path for path in paths if path not in self._settled]
            sizes = dict(zip(new, self._objects.in_parallel(self._objects.size, new), strict=True))
            total += sum(sizes[path] if path in sizes else self._settled[path] for path in paths)
            for path, size in sizes.items():
                if paths[path] < newest and paths[path] not in growing:
                    self._settled[path] = size
        return total

    def _open_work(self) -> list[Place]:
        """Work that has not ended."""
        kinds = {id: kind_of(id) for id in self._objects.children(f"open/{self._tenant}")}
        return [Place(kind, self._tenant, id) for id, kind in kinds.items() if kind is not None]

    def _to_come(self, open_work: list[Place]) -> int:
        """Bytes that open work has announced and not written."""
        new = [place for place in open_work if place not in self._announced]
        found = zip(new, self._objects.in_parallel(self._announcement, new), strict=True)
        # What is not there yet is looked at again.
        known = {**self._announced, **{place: size for place, size in found if size is not None}}
        self._announced = {place: known[place] for place in open_work if place in known}
        large = [place for place, size in self._announced.items() if size]
        there = self._objects.in_parallel(lambda place: self._objects.size(place.folder), large)
        return sum(max(0, known[place] - size) for place, size in zip(large, there, strict=True))

    def _announcement(self, place: Place) -> int | None:
        """None while the request is not written."""
        path = f"{place.folder}/request.json"
        request = readable(path, lambda path: self._objects.read_record(path, WorkRequest))
        return None if request is None else request.announced_bytes
