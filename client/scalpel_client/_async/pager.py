"""Lists, which are fetched page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Generic, TypeVar

from scalpel_client._async.transport import AsyncTransport
from scalpel_client._base import Model

M = TypeVar("M", bound=Model)


class Page(Model, Generic[M]):
    """Some items of a list."""

    data: list[M]
    has_more: bool
    first_id: str | int | None = None
    last_id: str | int | None = None
    """Where the next page begins, as `after`."""


class AsyncPager(Generic[M]):
    """All items of a list, fetched as they are needed; or one page of them."""

    def __init__(
        self,
        transport: AsyncTransport,
        path: str,
        item: type[M],
        query: Mapping[str, Any] | None = None,
    ) -> None:
        self._transport = transport
        self._path = path
        self._item = item
        self._query = dict(query or {})

    async def __aiter__(self) -> AsyncIterator[M]:
        async for page in self.pages():
            for item in page.data:
                yield item

    async def page(self) -> Page[M]:
        """The first page alone; `limit` says how long it is."""
        return await self._fetch(self._query)

    async def pages(self) -> AsyncIterator[Page[M]]:
        """Page after page. One may be empty, and followed by others."""
        page = await self._fetch(self._query)
        yield page
        while page.has_more:
            page = await self._fetch({**self._query, "after": page.last_id})
            yield page

    async def _fetch(self, query: Mapping[str, Any]) -> Page[M]:
        kind: type[Page[M]] = Page[self._item]  # type: ignore[name-defined]
        return await self._transport.request("GET", self._path, kind, query=query)
