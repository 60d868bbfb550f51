"""Edits as JSON, read for many requests at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from cachetools import LRUCache
from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from app.domain.batches import Batches
from app.routes.edits.views import edit_views
from app.services import Services
from models_store.errors import ScalpelError
from models_store.work.store import Work

_REMEMBERED = 1_000
_Key = tuple[str, str]
"""Tenant and id."""


class EditReader:
    """One an application; what does not change any more is written as JSON once."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._batches: Batches[_Key, bytes] = Batches(self._read, "edits")
        self._ended: LRUCache[str, tuple[Work, bytes]] = LRUCache(_REMEMBERED)

    async def read(self, tenant: str, id: str) -> bytes:
        """An edit as the API shows it.

        Raises:
            NotFound: there is no such edit, or it was deleted.
        """
        store = self._services.opened
        if store is not None and store.objects.root is not None:
            return await self._batches.get((tenant, id))
        # A store that is far away is better asked many things at once than one after the other.
        return await run_in_threadpool(self._read_one, tenant, id)

    def close(self) -> None:
        self._batches.close()

    def _read_one(self, tenant: str, id: str) -> bytes:
        work = self._services.store.work.read("edit", tenant, id)
        return edit_views(self._services, [work], points=True)[0].model_dump_json().encode()

    def _read(self, keys: Sequence[_Key]) -> list[bytes | Exception]:
        found: dict[_Key, bytes | Exception] = {}
        changing: defaultdict[str, list[Work]] = defaultdict(list)
        for tenant, id in dict.fromkeys(keys):
            try:
                work = self._services.store.work.read("edit", tenant, id)
            except ScalpelError as error:
                found[tenant, id] = error
                continue
            written, shown = self._ended.get(id, (None, b""))
            if written is work:
                found[tenant, id] = shown
            else:
                changing[tenant].append(work)
        for tenant, works in changing.items():
            for work, view in zip(
                works, edit_views(self._services, works, points=True), strict=True
            ):
                shown = found[tenant, work.id] = view.model_dump_json().encode()
                if work.result is not None:
                    self._ended[work.id] = work, shown
        return [found[key] for key in keys]


def edit_reader(request: Request) -> EditReader:
    """That of the application."""
    reader = request.app.state.edit_reader
    assert isinstance(reader, EditReader)
    return reader
