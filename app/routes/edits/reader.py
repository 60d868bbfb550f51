"""Edits as JSON, read for many requests at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from cachetools import LRUCache
from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from app.domain.batches import Batches
from app.routes.edits.views import edit_views
from app.services import Services
from models_store.work.store import Work

_REMEMBERED = 1_000


@dataclass(frozen=True)
class _Wanted:
    tenant: str
    id: str
    work: Work | None = None
    """The edit, if it was read already."""


class EditReader:
    """One an application; what does not change any more is written as JSON once."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._batches: Batches[_Wanted, bytes] = Batches(self._read, "edits")
        self._ended: LRUCache[str, tuple[Work, bytes]] = LRUCache(_REMEMBERED)
        """By id, in the thread of the batches only."""

    async def read(self, tenant: str, id: str) -> bytes:
        """An edit as the API shows it.

        Raises:
            NotFound: there is no such edit, or it was deleted.
        """
        store = self._services.opened
        if store is not None and store.objects.root is not None:
            return await self._batches.get(_Wanted(tenant, id))
        # A store that is far away is better asked many things at once than one after the other.
        work = await run_in_threadpool(lambda: self._services.store.work.read("edit", tenant, id))
        return await self.show(work)

    async def show(self, work: Work) -> bytes:
        """An edit that was just read, as the API shows it."""
        return await self._batches.get(_Wanted(work.request.tenant, work.id, work))

    def close(self) -> None:
        self._batches.close()

    def _read(self, wanted: Sequence[_Wanted]) -> list[bytes | Exception]:
        shown: list[bytes | Exception] = [b""] * len(wanted)
        changing: defaultdict[str, list[tuple[int, Work]]] = defaultdict(list)
        for index, one in enumerate(wanted):
            try:
                work = one.work or self._services.store.work.read("edit", one.tenant, one.id)
            except Exception as error:
                shown[index] = error
                continue
            written, shown[index] = self._ended.get(work.id, (None, b""))
            if written is not work:
                changing[one.tenant].append((index, work))
        for edits in changing.values():
            for (index, work), data in zip(
                edits, self._as_json([work for _, work in edits]), strict=True
            ):
                shown[index] = data
                if work.result is not None and isinstance(data, bytes):
                    self._ended[work.id] = work, data
        return shown

    def _as_json(self, edits: Sequence[Work]) -> list[bytes | Exception]:
        """Edits of one tenant; where one cannot be shown, the others can."""
        try:
            views = edit_views(self._services, edits, points=True)
            return [view.model_dump_json().encode() for view in views]
        except Exception as error:
            if len(edits) == 1:
                return [error]
            return [data for edit in edits for data in self._as_json([edit])]


def edit_reader(request: Request) -> EditReader:
    """That of the application."""
    reader = request.app.state.edit_reader
    assert isinstance(reader, EditReader)
    return reader
