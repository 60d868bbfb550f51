"""How many bytes of a tenant are in the store, without looking again at what has settled."""

from __future__ import annotations

import time

from models_store.ids import bucket_at, bucket_of
from models_store.objects.store import ObjectStore
from models_store.work.store import FOLDERS, kind_of

_OTHERS = ("behaviors", "aliases", "webhooks")
_LATE_SECONDS = 3600.0
"""A new id may be older than it is put in: it is made first, and clocks differ."""


class StoredBytes:
    """Bytes of one tenant's edits, exports, behaviours, aliases and webhooks.

    A bucket of work has settled once no new id falls into it and all of its work has ended: from
    then on it can only shrink, so its size is remembered. A count therefore takes as long as there
    is new and open work, however much is stored.
    """

    def __init__(self, objects: ObjectStore, tenant: str) -> None:
        self._objects = objects
        self._tenant = tenant
        self._settled: dict[str, int] = {}
        """Bytes by folder of a bucket."""

    def count(self, whole: bool) -> int:
        """The bytes there are, or were when their bucket had settled.

        Args:
            whole: look at everything, so as to see what was deleted meanwhile.
        """
        if whole:
            self._settled.clear()
        # Looked at before sizes are: what ends in between is counted once more.
        growing = self._growing()
        newest = bucket_at(time.time() - _LATE_SECONDS)
        others = (f"{folder}/{self._tenant}" for folder in _OTHERS)
        total = sum(self._objects.in_parallel(self._objects.size, others))
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

    def _growing(self) -> set[str]:
        """Buckets with work that has not ended."""
        open_ids = self._objects.children(f"open/{self._tenant}")
        return {bucket_of(id) for id in open_ids if kind_of(id) is not None}
