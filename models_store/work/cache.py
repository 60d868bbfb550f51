"""A `WorkStore` for readers: what has ended does not change any more, so it is read once."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from models_store.audit.log import AuditLog
from models_store.errors import NotFound
from models_store.objects.store import ObjectStore
from models_store.schemas.records import Kind
from models_store.work.store import Place, Work, WorkStore

_CAPACITY = 1_000


class CachedWorkStore(WorkStore):
    """Keeps ended work in memory; only whether it was deleted is looked up each time."""

    def __init__(
        self,
        objects: ObjectStore,
        capacity: int = _CAPACITY,
        audit: AuditLog | None = None,
    ) -> None:
        super().__init__(objects, audit)
        self._capacity = capacity
        self._ended: OrderedDict[Place, Work] = OrderedDict()
        self._lock = Lock()

    def read(self, kind: Kind, tenant: str, id: str) -> Work:
        place = Place(kind, tenant, id)
        with self._lock:
            known = self._ended.get(place)
            if known is not None:
                self._ended.move_to_end(place)
        if known is not None and self.objects.info(f"{place.folder}/deleted.json") is None:
            return known
        try:
            work = super().read(kind, tenant, id)
        except NotFound:
            with self._lock:
                self._ended.pop(place, None)
            raise
        if work.result is not None:
            with self._lock:
                self._ended[place] = work
                while len(self._ended) > self._capacity:
                    self._ended.popitem(last=False)
        return work
