# Generated from `_async` by `make client`: do not change it here.
"""Lists, which are fetched page by page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

from scalpel_client._base import Model
from scalpel_client._sync.transport import Transport

M = TypeVar("M", bound=Model)


class Page(Model, Generic[M]):
    """Some items of a list."""

    data: list[M]
    has_more: bool
    first_id: str | int | None = None
    last_id: str | int | None = None
    """Where the next page begins, as `after`."""


class Pager(Generic[M]):
    """All items of a list, fetched as they are needed; or one page of them."""

    def __init__(
        self,
        transport: Transport,
        path: str,
        item: type[M],
        query: Mapping[str, Any] | None = None,
    ) -> None:
        self._transport = transport
        self._path = path
        self._item = item
        self._query = dict(query or {})

    def __iter__(self) -> Iterator[M]:
        for page in self.pages():
            yield from page.data

    def page(self) -> Page[M]:
        """The first page alone; `limit` says how long it is."""
        return self._fetch(self._query)

    def pages(self) -> Iterator[Page[M]]:
        """Page after page. One may be empty, and followed by others."""
        page = self._fetch(self._query)
        yield page
        while page.has_more:
            page = self._fetch({**self._query, "after": page.last_id})
            yield page

    def _fetch(self, query: Mapping[str, Any]) -> Page[M]:
        kind: type[Page[M]] = Page[self._item]  # type: ignore[name-defined]
        return self._transport.request("GET", self._path, kind, query=query)
