"""Where a page of a list ends."""

from __future__ import annotations

import pytest

from app.request import pagination
from app.request.pagination import PageQuery
from models_store.objects.store import ObjectStore


@pytest.mark.parametrize(("count", "more"), [(0, False), (2, False), (3, False), (4, True)])
def test_a_full_last_page_has_nothing_after_it(
    objects: ObjectStore, count: int, more: bool
) -> None:
    ids = [f"id{number}" for number in range(count)]
    page = PageQuery(limit=3, order="asc", after=None)
    assert page.cut(ids) == (ids[:3], more)
    assert page.chosen(objects, ids, lambda id: id) == (ids[:3], more, None)


def test_things_that_are_left_out_of_a_list_do_not_make_another_page(objects: ObjectStore) -> None:
    ids = [f"id{number}" for number in range(9)]
    page = PageQuery(limit=3, order="asc", after=None)

    def first(count: int) -> list[str]:
        return ids[:count]

    assert page.chosen(objects, ids, lambda id: id if id in first(3) else None) == (
        ids[:3],
        False,
        None,
    )
    assert page.chosen(objects, ids, lambda id: id if id in first(4) else None) == (
        ids[:3],
        True,
        None,
    )


def test_a_long_search_for_few_things_goes_on_where_it_stopped(objects: ObjectStore) -> None:
    ids = [f"id{number:04}" for number in range(pagination.MOST_LOOKED_AT + 1)]
    page = PageQuery(limit=3, order="asc", after=None)
    assert page.chosen(objects, ids, lambda id: None) == ([], True, ids[-2])
    assert page.chosen(objects, ids[:-1], lambda id: None) == ([], False, None)


@pytest.mark.parametrize(("order", "left"), [("asc", ["c", "d"]), ("desc", ["a"])])
def test_a_page_begins_after_its_position(order: str, left: list[str]) -> None:
    names = ["d", "a", "c", "b"]
    page = PageQuery(limit=3, order="asc" if order == "asc" else "desc", after="b")
    assert page.ordered(names) == left
