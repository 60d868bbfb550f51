"""A `WorkStore` for readers: records do not change, so work is read again when there are more."""

from __future__ import annotations

from threading import Lock

from cachetools import LRUCache

from models_store.audit.log import AuditLog
from models_store.errors import NotFound
from models_store.objects.store import ObjectStore
from models_store.schemas.records import Kind
from models_store.work.store import Place, Work, WorkStore

_CAPACITY = 1_000


class CachedWorkStore(WorkStore):
    """Caches work with the names of its records, which are listed each time.

    Of finished work only whether it was deleted is looked up; the first time its summary is enough.
    """

    def __init__(
        self,
        objects: ObjectStore,
        capacity: int = _CAPACITY,
        audit: AuditLog | None = None,
    ) -> None:
        super().__init__(objects, audit)
        self._ended: LRUCache[Place, Work] = LRUCache(capacity)
        self._open: LRUCache[Place, tuple[list[str], Work]] = LRUCache(capacity)
        self._lock = Lock()

    def read(self, kind: Kind, tenant: str, id: str) -> Work:
        place = Place(kind, tenant, id)
        with self._lock:
            cached = self._ended.get(place)
        if cached is not None and not self.objects.exists(f"{place.folder}/deleted.json"):
            return cached
        with self._lock:
            listed, seen = self._open.get(place, (None, None))
        summary = self._summary(place) if seen is None else None
        if summary is not None:
            with self._lock:
                self._ended[place] = summary
            return summary
        names = self.objects.paths(place.folder)
        if seen is not None and names == listed:
            return seen
        try:
            work = super().read(kind, tenant, id)
        except NotFound:
            with self._lock:
                self._ended.pop(place, None)
                self._open.pop(place, None)
            raise
        with self._lock:
            if work.result is None:
                self._open[place] = names, work
            else:
                self._open.pop(place, None)
                self._ended[place] = work
        return work
