"""A `WorkStore` for readers: what has ended does not change any more, so it is read once."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from models_store.audit import AuditLog
from models_store.errors import NotFound
from models_store.objects import ObjectStore
from models_store.records import Kind, WorkRequest
from models_store.work import Place, Work, WorkStore

_CAPACITY = 2_000
_REQUESTS = 1_000


class CachedWorkStore(WorkStore):
    """Keeps ended work in memory; only whether it was deleted is looked up each time. Of other work
    it keeps the request.
    """

    def __init__(
        self,
        objects: ObjectStore,
        capacity: int = _CAPACITY,
        audit: AuditLog | None = None,
    ) -> None:
        super().__init__(objects, audit)
        self._capacity = capacity
        self._ended: OrderedDict[Place, Work] = OrderedDict()
        self._requests: OrderedDict[Place, WorkRequest] = OrderedDict()
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

    def _request(self, place: Place) -> WorkRequest | None:
        with self._lock:
            known = self._requests.get(place)
            if known is not None:
                self._requests.move_to_end(place)
                return known
        request = super()._request(place)
        if request is not None:
            with self._lock:
                self._requests[place] = request
                while len(self._requests) > _REQUESTS:
                    self._requests.popitem(last=False)
        return request
