"""Lists in pages: `{"object": "list", "data": […], "first_id", "last_id", "has_more"}`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Annotated, Any, Generic, Literal, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel

from app.domain.bodies import View
from models_store.ids import WORK_ID
from models_store.objects.store import ObjectStore, readable
from models_store.schemas.records import Kind, Status
from models_store.work.store import Place, Work, WorkStore

DEFAULT_LIMIT = 20
MOST_LOOKED_AT = 1_000
"""Things that one page of a filtered list is chosen from."""
S = TypeVar("S")
T = TypeVar("T", bound=BaseModel)


class Page(View, Generic[T]):
    """One page of a list."""

    object: Literal["list"] = "list"
    """What kind of thing this is: always the same word."""
    data: list[T]
    """Of this page."""
    first_id: str | int | None
    """Of the first one; null on an empty page."""
    last_id: str | int | None
    """Give it as `after` for the next page."""
    has_more: bool
    """Whether there is a next page."""

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        """`EditPage` of `EditView`."""
        return str(params[0].__name__).removesuffix("View").removesuffix("Summary") + "Page"


def page_of(
    data: list[T], has_more: bool, name: str = "id", *, looked_at: str | None = None
) -> Page[T]:
    """A page of things that are named by their attribute `name`.

    Args:
        looked_at: the last thing that was looked at, where that is not the last of the page.
    """
    return Page(
        data=data,
        first_id=getattr(data[0], name) if data else None,
        last_id=looked_at or (getattr(data[-1], name) if data else None),
        has_more=has_more,
    )


@dataclass(frozen=True)
class PageQuery:
    """The requested page."""

    limit: int
    order: Literal["asc", "desc"]
    after: str | None
    most_looked_at: int = MOST_LOOKED_AT

    @property
    def descending(self) -> bool:
        return self.order == "desc"

    def cut(self, items: Iterable[S]) -> tuple[list[S], bool]:
        """The first `limit` of the items, which come after the position; whether there are more."""
        shown = list(islice(items, self.limit + 1))
        return shown[: self.limit], len(shown) > self.limit

    def chosen(
        self, objects: ObjectStore, ids: Iterable[str], find: Callable[[str], S | None]
    ) -> tuple[list[S], bool, str | None]:
        """The first `limit` things that `find` does not refuse, of `most_looked_at` at most.

        Returns:
            Them; whether there may be more; where the next page goes on, if not after the last.
        """
        chosen: list[S] = []
        last = None

        def pair(id: str) -> tuple[str, S | None]:
            return id, readable(id, find)

        found = objects.in_parallel(pair, ids, ahead=self.limit + 1)
        for number, (id, item) in enumerate(found):
            if number == self.most_looked_at:
                return chosen, True, last
            last = id
            if item is not None and len(chosen) == self.limit:
                return chosen, True, None
            if item is not None:
                chosen.append(item)
        return chosen, False, None

    def work(
        self,
        store: WorkStore,
        kind: Kind,
        tenant: str,
        status: Status | None,
        base_model: str | None,
        *,
        also: Callable[[Work], bool] = lambda _: True,
        among: Iterable[str] | None = None,
    ) -> tuple[list[Work], bool, str | None]:
        """The tenant's work of that status and base model that is `also` so, as `chosen`.

        Args:
            among: ids of all that may be so; None where only a look at each can tell.
        """

        def find(id: str) -> Work | None:
            work = store.find(Place(kind, tenant, id))
            fits = (
                work is not None
                and status in (None, work.status)
                and base_model in (None, work.request.base_model)
                and also(work)
            )
            return work if fits else None

        ids: Iterable[str] = (
            store.list_ids(kind, tenant, after=self.after, descending=self.descending)
            if among is None
            else self.by_time(among)
        )
        return self.chosen(store.objects, ids, find)

    def by_time(self, ids: Iterable[str]) -> list[str]:
        """Those of the ids of work that come after the position, in the requested order."""
        made = {id.rpartition("_")[2]: id for id in ids}
        position = None if self.after is None else self.after.rpartition("_")[2]
        return [made[ulid] for ulid in replace(self, after=position).ordered(made)]

    def ordered(self, names: Iterable[str]) -> list[str]:
        """Those of the names that come after the position, in the requested order."""
        ordered = sorted(names, reverse=self.descending)
        if self.after is None:
            return ordered
        after = self.after
        return [name for name in ordered if (name < after if self.descending else name > after)]


Limit = Annotated[int, Query(ge=1, le=100)]
Order = Literal["asc", "desc"]


async def _by_name(
    limit: Limit = DEFAULT_LIMIT,
    order: Order = "desc",
    after: Annotated[str | None, Query(max_length=200)] = None,
) -> PageQuery:
    return PageQuery(limit, order, after)


async def page_by_id(
    limit: Limit = DEFAULT_LIMIT,
    order: Order = "desc",
    after: Annotated[str | None, Query(pattern=WORK_ID, description="An id.")] = None,
) -> PageQuery:
    return PageQuery(limit, order, after)


async def _by_number(
    limit: Limit = DEFAULT_LIMIT,
    order: Order = "desc",
    after: Annotated[int | None, Query(ge=0, lt=10**18, description="A number.")] = None,
) -> PageQuery:
    return PageQuery(limit, order, None if after is None else str(after))


PageDep = Annotated[PageQuery, Depends(_by_name)]
"""Which page of things that are ordered by a name."""
IdPageDep = Annotated[PageQuery, Depends(page_by_id)]
"""Of things that are ordered by an id that Scalpel gave; `after` need not exist."""
NumberPageDep = Annotated[PageQuery, Depends(_by_number)]
