"""Histories: numbered versions, of which the newest counts."""

from __future__ import annotations

import pytest

from models_store.errors import Conflict, NotFound
from models_store.objects.histories import Histories, Version
from models_store.objects.store import ObjectStore


class Named(Version):
    value: str


@pytest.fixture
def names(any_objects: ObjectStore) -> Histories[Named]:
    return Histories(any_objects, "names", Named)


def test_the_newest_version_is_the_current_one(names: Histories[Named]) -> None:
    assert names.current("t", "a") is None
    for number, value in enumerate("xyz", start=1):
        names.append("t", "a", Named(number=number, value=value))
    assert names.get("t", "a").value == "z"
    assert [version.value for version in names.versions("t", "a", names.numbers("t", "a"))] == [
        "x",
        "y",
        "z",
    ]
    assert list(names.names("t")) == ["a"]
    assert names.tenants() == ["t"]
    assert names.current("u", "a") is None


def test_a_number_that_is_taken_is_a_conflict(names: Histories[Named]) -> None:
    names.append("t", "a", Named(number=1, value="x"))
    with pytest.raises(Conflict) as caught:
        names.append("t", "a", Named(number=1, value="y"))
    assert caught.value.code == "changed_meanwhile"
    assert names.get("t", "a").value == "x"


def test_a_deletion_is_a_version_after_which_there_is_none(names: Histories[Named]) -> None:
    names.append("t", "a", Named(number=1, value="x"))
    names.append("t", "a", Named(number=2, value="x", deleted=True))
    assert names.current("t", "a") is None
    newest = names.newest("t", "a")
    assert newest is not None
    assert newest.number == 2
    with pytest.raises(NotFound):
        names.get("t", "a")
    assert names.append("t", "a", Named(number=3, value="z")).value == "z"
    assert names.get("t", "a").value == "z"


def test_versions_beyond_ten_are_in_order(names: Histories[Named]) -> None:
    for number in range(1, 13):
        names.append("t", "a", Named(number=number, value=str(number)))
    assert names.get("t", "a").value == "12"
