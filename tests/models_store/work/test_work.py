"""The records of work: every step is one create, and whoever comes first decides."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from models_store import ids
from models_store.errors import Conflict, NotFound
from models_store.objects.store import ObjectStore
from models_store.schemas.records import ErrorInfo, Result
from models_store.work.cache import CachedWorkStore
from models_store.work.store import Place, WorkStore
from tests.models_store.make import edit_request, end, finished_edit, place_of


def test_work_goes_from_queued_over_running_to_succeeded(any_objects: ObjectStore) -> None:
    store = WorkStore(any_objects)
    request = edit_request()
    place = place_of(request)
    work = store.submit(request, b"texts")
    assert (work.status, work.attempt, work.running) == ("queued", 0, None)
    assert store.objects.read(place.texts) == b"texts"
    assert list(store.open_work()) == [place]
    claim = store.claim(place, "w")
    assert claim is not None
    assert claim.attempt == 1
    running = store.read("edit", "default", request.id)
    assert (running.status, running.running) == ("running", claim)
    assert store.publish(place, end(1, "succeeded", "delta"))
    done = store.read("edit", "default", request.id)
    assert (done.status, done.running, done.attempt) == ("succeeded", None, 1)
    assert done.result is not None
    assert done.result.artifact("delta") is not None
    assert done.result.artifact("report") is None
    assert list(store.open_work()) == []


def test_submitting_again_changes_nothing(work: WorkStore) -> None:
    request = edit_request()
    first = work.submit(request, b"texts")
    again = work.submit(edit_request(request.id, suffix="other"), b"others")
    assert again == first
    assert work.objects.read(place_of(request).texts) == b"texts"


@pytest.mark.parametrize("done", [0, 1, 2])
def test_a_submission_that_was_cut_short_is_finished_by_the_next(
    work: WorkStore, done: int
) -> None:
    request = edit_request()
    place = place_of(request)
    steps: list[Callable[[], object]] = [
        lambda: work.objects.create(place.marker, b'{"kind": "edit"}'),
        lambda: work.objects.create(place.texts, b"texts"),
    ]
    for step in steps[:done]:
        step()
    assert work.find(place) is None
    assert work.submit(request, b"texts").status == "queued"


def test_an_attempt_is_claimed_once(any_objects: ObjectStore) -> None:
    store = WorkStore(any_objects)
    request = edit_request()
    store.submit(request)
    place = place_of(request)
    with ThreadPoolExecutor(6) as pool:
        claims = list(pool.map(lambda n: store.claim(place, f"w{n}"), range(6)))
    won = [claim for claim in claims if claim is not None]
    assert len(won) == 1
    assert store.read("edit", "default", request.id).claims == tuple(won)


def test_the_next_attempt_waits_for_the_end_of_the_one_before(work: WorkStore) -> None:
    request = edit_request()
    place = place_of(request)
    work.submit(request)
    assert work.claim(place, "w") is not None
    assert work.claim(place, "v") is None
    assert work.end_attempt(place, end(1, "lost"))
    second = work.claim(place, "v")
    assert second is not None
    assert second.attempt == 2
    read = work.read("edit", "default", request.id)
    assert read.status == "running"
    assert [one.outcome if one else None for one in read.ends] == ["lost", None]


def test_a_sealed_attempt_publishes_nothing(work: WorkStore) -> None:
    request = edit_request()
    place = place_of(request)
    work.submit(request)
    work.claim(place, "w")
    assert work.end_attempt(place, end(1, "lost"))
    assert not work.publish(place, end(1, "succeeded", "delta"))
    assert work.result_of(place) is None
    assert work.read("edit", "default", request.id).status == "running"


def test_publishing_again_after_a_failure_knows_its_own_result(work: WorkStore) -> None:
    request = edit_request()
    place = place_of(request)
    work.submit(request, b"texts")
    work.claim(place, "w")
    made = end(1, "succeeded", "delta")
    assert work.publish(place, made)
    assert work.publish(place, made), "as after an answer that was lost"
    assert not work.publish(place, end(1, "succeeded", "delta"))


def test_an_end_without_a_result_is_completed(work: WorkStore) -> None:
    for outcome, status in (("succeeded", "succeeded"), ("failed", "failed")):
        request = edit_request()
        place = place_of(request)
        work.submit(request)
        work.claim(place, "w")
        work.end_attempt(place, end(1, outcome))  # type: ignore[arg-type]
        read = work.read("edit", "default", request.id)
        assert read.status == "running"
        assert work.claim(place, "v") is None
        result = work.settle(read)
        assert result is not None
        assert result.status == status
        assert work.read("edit", "default", request.id).status == status


def test_work_whose_attempt_is_lost_is_not_settled(work: WorkStore) -> None:
    request = edit_request()
    work.submit(request)
    work.claim(place_of(request), "w")
    work.end_attempt(place_of(request), end(1, "lost"))
    assert work.settle(work.read("edit", "default", request.id)) is None


def test_whoever_decides_first_decides_for_ever(work: WorkStore) -> None:
    request = edit_request()
    place = place_of(request)
    work.submit(request)
    work.claim(place, "w")
    assert work.cancel("edit", "default", request.id).status == "canceled"
    assert not work.publish(place, end(1, "succeeded", "delta"))
    failure = Result(status="failed", attempt=1)
    assert work.finish(place, failure).status == "canceled"
    assert work.fail(place, 1, ErrorInfo(code="deadline", message="late")).status == "canceled"
    assert work.cancel("edit", "default", request.id).status == "canceled"
    assert work.read("edit", "default", request.id).status == "canceled"


def test_a_cancel_after_the_end_is_a_conflict(work: WorkStore) -> None:
    id = finished_edit(work)
    with pytest.raises(Conflict) as caught:
        work.cancel("edit", "default", id)
    assert caught.value.code == "edit_already_finished"


def test_a_cancel_respects_an_end_that_has_no_result_yet(work: WorkStore) -> None:
    request = edit_request()
    place = place_of(request)
    work.submit(request)
    work.claim(place, "w")
    work.end_attempt(place, end(1, "succeeded", "delta"))
    with pytest.raises(Conflict):
        work.cancel("edit", "default", request.id)
    assert work.read("edit", "default", request.id).status == "succeeded"


def test_deleted_work_is_gone_but_for_its_tombstone(work: WorkStore) -> None:
    id = finished_edit(work)
    place = Place("edit", "default", id)
    work.objects.put(f"{place.attempt(1)}/delta.safetensors", b"data")
    work.delete("edit", "default", id)
    with pytest.raises(NotFound):
        work.read("edit", "default", id)
    with pytest.raises(NotFound):
        work.delete("edit", "default", id)
    assert work.find(place) is None
    assert work.was_deleted("edit", "default", id)
    names = [info.path.rpartition("/")[2] for info in work.objects.files(place.folder)]
    assert names == ["deleted.json", "summary.json"]
    remains = work.remains(place)
    assert remains is not None
    assert remains.status == "succeeded"


def test_deleting_unfinished_work_cancels_it(work: WorkStore) -> None:
    request = edit_request()
    place = place_of(request)
    work.submit(request)
    work.claim(place, "w")
    work.delete("edit", "default", request.id)
    remains = work.remains(place)
    assert remains is not None
    assert remains.status == "canceled"
    assert not work.publish(place, end(1, "succeeded", "delta"))
    assert list(work.open_work()) == []


def test_ids_are_listed_by_age_whatever_their_bucket(any_objects: ObjectStore) -> None:
    store = WorkStore(any_objects)
    made = [f"edit_0{letter}AAA{'0' * 20}{number}" for letter in "ABC" for number in "12"]
    for id in made:
        store.submit(edit_request(id))
    assert list(store.list_ids("edit", "default")) == made[::-1]
    assert list(store.list_ids("edit", "default", descending=False)) == made
    between = made[2][:-1] + "0"
    assert list(store.list_ids("edit", "default", after=between)) == made[:2][::-1]
    assert list(store.list_ids("edit", "default", after=between, descending=False)) == made[2:]
    assert list(store.list_ids("edit", "other")) == []
    store.delete("edit", "default", made[3])
    assert [one.id for one in store.walk("edit", "default")] == [
        id for id in made[::-1] if id != made[3]
    ]


def test_tenants_do_not_share_work(work: WorkStore) -> None:
    request = edit_request(tenant="red")
    work.submit(request)
    with pytest.raises(NotFound):
        work.read("edit", "blue", request.id)


@pytest.mark.parametrize("id", ["", "x", "edit_", "../x", "edit_" + "0" * 25, "edit_" + "/" * 26])
def test_what_is_no_id_is_not_found(work: WorkStore, id: str) -> None:
    with pytest.raises(NotFound):
        work.read("edit", "default", id)


def test_ids_sort_by_the_time_they_were_made() -> None:
    made = [ids.new_id("edit") for _ in range(100)]
    assert len(set(made)) == 100
    assert {ids.bucket_of(id) for id in made} <= {made[0][5:10], made[-1][5:10]}
    assert made[0][:14] <= made[-1][:14]


def test_a_caching_store_reads_what_has_ended_once(cached: CachedWorkStore) -> None:
    id = finished_edit(cached)
    first = cached.read("edit", "default", id)
    assert cached.read("edit", "default", id) is first
    queued = edit_request()
    cached.submit(queued)
    assert cached.read("edit", "default", queued.id).status == "queued"
    cached.claim(place_of(queued), "w")
    assert cached.read("edit", "default", queued.id).status == "running"


def test_a_caching_store_notices_what_another_has_deleted(
    cached: CachedWorkStore, work: WorkStore
) -> None:
    id = finished_edit(cached)
    cached.read("edit", "default", id)
    work.delete("edit", "default", id)
    with pytest.raises(NotFound):
        cached.read("edit", "default", id)


def test_a_caching_store_forgets_the_oldest(objects: ObjectStore) -> None:
    store = CachedWorkStore(objects, capacity=2)
    made = [finished_edit(store) for _ in range(3)]
    works = [store.read("edit", "default", id) for id in made]
    assert store.read("edit", "default", made[2]) is works[2]
    assert store.read("edit", "default", made[0]) is not works[0]
