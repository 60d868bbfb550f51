"""Of work that has ended a list reads one object each, which is what its records say."""

from __future__ import annotations

import time
from collections import Counter
from typing import TypeVar

import pytest

from app.loops.keeper.sweep import sweep
from models_store.errors import NotFound, Unavailable
from models_store.objects.checksum import with_checksum
from models_store.objects.store import ObjectStore
from models_store.schemas.base import Record
from models_store.schemas.records import ErrorInfo, Result, Summary
from models_store.work.cache import CachedWorkStore
from models_store.work.store import Place, WorkStore
from tests.models_store.make import edit_request, end, finished_edit, place_of


def never() -> bool:
    return False


def ended(store: WorkStore, how: str) -> Place:
    request = edit_request()
    place = place_of(request)
    store.submit(request, b"texts")
    if how == "canceled":
        store.cancel("edit", "default", request.id)
        return place
    store.claim(place, "one")
    store.end_attempt(place, end(1, "lost"))
    if how == "given up":
        store.fail(place, 1, ErrorInfo(code="worker_lost", message="it died"))
    else:
        store.claim(place, "two")
        store.publish(place, end(2, "succeeded", "delta"))
    return place


@pytest.mark.parametrize("how", ["succeeded", "given up", "canceled"])
def test_a_summary_is_what_the_records_say(any_objects: ObjectStore, how: str) -> None:
    store = WorkStore(any_objects)
    place = ended(store, how)
    by_summary = CachedWorkStore(any_objects).read("edit", "default", place.id)
    any_objects.delete(place.summary)
    assert store.read("edit", "default", place.id) == by_summary
    assert sweep(store, never) == {"summarized": 1}
    assert CachedWorkStore(any_objects).read("edit", "default", place.id) == by_summary


R = TypeVar("R", bound=Record)


class CountedStore(ObjectStore):
    """Counts what is read."""

    counts: Counter[str]

    @classmethod
    def over(cls, objects: ObjectStore) -> CountedStore:
        store = cls(objects._backend, root=objects.root)
        store.counts = Counter()
        return store

    def read_record(self, path: str, kind: type[R]) -> R | None:
        self.counts["records"] += 1
        return super().read_record(path, kind)

    def paths(self, folder: str, *, remember: bool = False) -> list[str]:
        self.counts["listings"] += 1
        return super().paths(folder, remember=remember)


def test_a_list_reads_one_object_of_each(any_objects: ObjectStore) -> None:
    store = WorkStore(any_objects)
    places = [ended(store, how) for how in ("succeeded", "given up", "canceled") * 2]
    counted = CountedStore.over(any_objects)
    listed = list(CachedWorkStore(counted).walk("edit", "default"))
    assert [work.id for work in listed] == sorted((place.id for place in places), reverse=True)
    assert counted.counts == {"records": len(places)}


def test_open_work_has_none_and_gets_one_when_it_ends(work: WorkStore) -> None:
    request = edit_request()
    place = place_of(request)
    work.submit(request)
    assert not work.summarize(place)
    work.finish(place, Result(status="canceled", attempt=0))
    assert work.objects.exists(place.summary)


def test_a_damaged_summary_is_made_again_by_who_ends_the_work(work: WorkStore) -> None:
    place = Place("edit", "default", finished_edit(work))
    work.objects.put(place.summary, b"{")
    before = work.read("edit", "default", place.id)
    assert work.summarize(place)
    assert CachedWorkStore(work.objects).read("edit", "default", place.id) == before


def test_what_a_later_version_wrote_is_in_a_summary_word_for_word(
    objects: ObjectStore, work: WorkStore
) -> None:
    place = Place("edit", "default", finished_edit(work))
    path = f"{place.folder}/result.json"
    body = objects.record_body(path)
    assert body is not None
    objects.put(path, with_checksum(path, body[:-1] + b',"later":["a field"]}'))
    objects.delete(place.summary)
    assert work.summarize(place)
    summary = objects.read_record(place.summary, Summary)
    assert summary is not None
    assert '"later":["a field"]' in summary.records["result.json"]
    assert CachedWorkStore(objects).read("edit", "default", place.id).status == "succeeded"


def test_deleted_work_stays_deleted_when_its_summary_comes_late(
    objects: ObjectStore, work: WorkStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place("edit", "default", finished_edit(work))
    objects.delete(place.summary)
    create = ObjectStore.create_record

    def delayed(self: ObjectStore, path: str, record: Record) -> bool:
        if path == place.summary:
            WorkStore(objects).delete("edit", "default", place.id)
        return create(self, path, record)

    monkeypatch.setattr(ObjectStore, "create_record", delayed)
    work.summarize(place)
    with pytest.raises(NotFound):
        CachedWorkStore(objects).read("edit", "default", place.id)
    assert sweep(work, never) == {}


@pytest.mark.parametrize("step", ["tombstone", "erase"])
def test_a_delete_that_broke_off_is_seen_and_can_be_repeated(
    objects: ObjectStore, work: WorkStore, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    place = Place("edit", "default", finished_edit(work))
    create = ObjectStore.create_record

    def broken(*_: object) -> bool:
        raise Unavailable("the store is away", code="store_unavailable")

    def breaks(self: ObjectStore, path: str, record: Record) -> bool:
        return broken() if path.endswith("deleted.json") else create(self, path, record)

    with monkeypatch.context() as patch:
        if step == "tombstone":
            patch.setattr(ObjectStore, "create_record", breaks)
        else:
            patch.setattr(WorkStore, "erase", broken)
        with pytest.raises(Unavailable):
            work.delete("edit", "default", place.id)
    with pytest.raises(NotFound):
        CachedWorkStore(objects).read("edit", "default", place.id)
    if step == "tombstone":
        work.delete("edit", "default", place.id)
    else:
        assert sweep(work, never)["erased"] == 1
    left = {path.rpartition("/")[2] for path in objects.paths(place.folder)}
    assert left == {"deleted.json", "summary.json"}


def test_calls_in_parallel_keep_their_order_and_can_be_left(any_objects: ObjectStore) -> None:
    called: list[int] = []

    def double(number: int) -> int:
        time.sleep(0.001 * (number % 3))
        called.append(number)
        return 2 * number

    assert list(any_objects.in_parallel(double, range(200), ahead=7)) == list(range(0, 400, 2))
    called.clear()
    assert next(any_objects.in_parallel(double, range(200), ahead=7)) == 0
    assert len(called) <= 8


def test_lists_beyond_the_threads_of_a_store_read_one_after_the_other(
    any_objects: ObjectStore,
) -> None:
    any_objects._threads.left = 5
    outer = any_objects.in_parallel(str, range(9), ahead=5)
    assert next(outer) == "0"
    assert list(any_objects.in_parallel(str, range(3))) == ["0", "1", "2"]
    assert list(outer) == [str(number) for number in range(1, 9)]
    assert any_objects._threads.left == 5


def test_a_call_in_parallel_that_fails_ends_the_list(any_objects: ObjectStore) -> None:
    def fail(number: int) -> int:
        raise NotFound(str(number))

    with pytest.raises(NotFound, match=r"^0$"):
        list(any_objects.in_parallel(fail, range(20)))
