"""Names that are held: suffixes and base ids, and what idempotency keys are bound to."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.domain.edits import idempotency
from app.domain.edits.idempotency import IdempotencyKey, digest
from models_store.errors import Conflict, InvalidRequest, Malformed, NotFound
from models_store.objects.store import ObjectStore
from models_store.schemas.records import Kind
from models_store.work import reservations
from models_store.work.base_models import BaseModels, registration
from models_store.work.reservations import NameTaken, Reservations
from models_store.work.store import Work, WorkStore
from tests.models_store.make import edit_request, finished_edit, register, spec


@pytest.fixture
def suffixes(work: WorkStore) -> Reservations:
    return Reservations(work, "edit", "suffixes", "suffix_taken")


def test_a_name_is_held_by_one_and_taking_it_again_is_fine(
    work: WorkStore, suffixes: Reservations
) -> None:
    first, second = edit_request(), edit_request()
    work.submit(first)
    for _ in range(2):
        suffixes.take("default", "pico:a", first.id)
    with pytest.raises(NameTaken, match=first.id):
        suffixes.take("default", "pico:a", second.id)
    suffixes.take("other-tenant", "pico:a", second.id)
    holder = suffixes.holder("default", "pico:a")
    assert holder is not None
    assert holder.id == first.id


def test_a_name_is_free_once_its_holder_ended_badly(
    work: WorkStore, suffixes: Reservations
) -> None:
    holders = [finished_edit(work, outcome="failed"), finished_edit(work), finished_edit(work)]
    canceled = edit_request()
    work.submit(canceled)
    work.cancel("edit", "default", canceled.id)
    suffixes.take("default", "pico:a", holders[0])
    suffixes.take("default", "pico:a", canceled.id)
    suffixes.take("default", "pico:a", holders[1])
    with pytest.raises(NameTaken):
        suffixes.take("default", "pico:a", holders[2])
    work.delete("edit", "default", holders[1])
    assert suffixes.holder("default", "pico:a") is None
    suffixes.take("default", "pico:a", holders[2])


def test_a_name_waits_for_a_submission_under_way_but_not_for_ever(
    suffixes: Reservations, monkeypatch: pytest.MonkeyPatch
) -> None:
    suffixes.take("default", "pico:a", edit_request().id)
    with pytest.raises(NameTaken):
        suffixes.take("default", "pico:a", edit_request().id)
    later = time.time() + 120
    monkeypatch.setattr(reservations.time, "time", lambda: later)
    suffixes.take("default", "pico:a", edit_request().id)


def test_a_submission_written_down_while_somebody_looks_is_not_taken_for_deleted(
    objects: ObjectStore,
) -> None:
    slow = edit_request()

    class ReadJustBefore(WorkStore):
        """The slow submission is written down right after the first read."""

        before = True

        def read(self, kind: Kind, tenant: str, id: str) -> Work:
            try:
                return super().read(kind, tenant, id)
            finally:
                if self.before:
                    self.before = False
                    self.submit(slow)

    suffixes = Reservations(ReadJustBefore(objects), "edit", "suffixes", "suffix_taken")
    suffixes.take("default", "pico:a", slow.id)
    with pytest.raises(NameTaken, match=slow.id):
        suffixes.take("default", "pico:a", edit_request().id)


def test_of_many_who_want_a_name_one_gets_it(any_objects: ObjectStore) -> None:
    store = WorkStore(any_objects)
    suffixes = Reservations(store, "edit", "suffixes", "suffix_taken")
    requests = [edit_request() for _ in range(6)]

    def take(id: str) -> bool:
        try:
            suffixes.take("default", "pico:a", id)
        except NameTaken:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(take, [request.id for request in requests])).count(True) == 1


def test_a_released_name_is_free(work: WorkStore, suffixes: Reservations) -> None:
    suffixes.take("default", "pico:a", finished_edit(work))
    suffixes.release("default", "pico:a")
    suffixes.take("default", "pico:a", finished_edit(work))
    suffixes.release("default", "pico:a")
    with pytest.raises(NotFound):
        suffixes.release("default", "pico:a")


def test_a_base_model_is_ready_once_its_registration_succeeded(
    work: WorkStore, bases: BaseModels
) -> None:
    with pytest.raises(InvalidRequest, match="known: none yet"):
        bases.ready("pico")
    made = bases.register(registration(spec(), 3600))
    with pytest.raises(Conflict) as conflict:
        bases.ready("pico")
    assert (conflict.value.code, conflict.value.retry_after) == ("base_model_not_ready", 5)
    work.cancel("base_model", "_", made.id)
    with pytest.raises(InvalidRequest, match="could not be registered: canceled"):
        bases.ready("pico")
    register(work, bases)
    ready = bases.ready("pico")
    assert (ready.id, ready.facts.layers, ready.takes_chat) == ("pico", 2, True)
    with pytest.raises(NameTaken) as taken:
        bases.register(registration(spec(), 3600))
    assert taken.value.code == "base_model_exists"


def test_what_a_specification_says_about_chat_counts(work: WorkStore, bases: BaseModels) -> None:
    register(work, bases, "a", chat_template=False)
    assert not bases.ready("a").takes_chat


def test_the_catalogue_is_filled_with_what_is_missing_changed_or_failed(
    work: WorkStore, bases: BaseModels
) -> None:
    specs = [spec("a"), spec("b")]
    assert bases.ensure(specs, 3600) == ["a", "b"]
    assert bases.ensure(specs, 3600) == []
    failed = bases.get("a").work
    work.cancel("base_model", "_", failed.id)
    assert bases.ensure(specs, 3600) == ["a"]
    assert bases.get("a").work.id != failed.id
    assert bases.ensure([spec("b", pool="gpu")], 3600) == ["b"]
    assert bases.get("b").spec.pool == "gpu"
    assert [base.id for base in bases.all()] == ["a", "b"]


def test_many_processes_that_start_at_once_register_a_base_model_once(
    objects: ObjectStore,
) -> None:
    def start(_: int) -> list[str]:
        return BaseModels(WorkStore(objects)).ensure([spec("a")], 3600)

    with ThreadPoolExecutor(6) as pool:
        put_in = [id for ids in pool.map(start, range(6)) for id in ids]
    assert put_in == ["a"]
    assert len(list(WorkStore(objects).open_work())) == 1


def key(objects: ObjectStore, body: str = "a", route: str = "POST /v1/edits") -> IdempotencyKey:
    return IdempotencyKey(objects, "default", "key", route, digest(body))


def test_a_key_is_bound_to_the_first_id(any_objects: ObjectStore) -> None:
    assert key(any_objects).find() is None
    assert key(any_objects).claim("edit", "edit_1") == "edit_1"
    assert key(any_objects).claim("edit", "edit_2") == "edit_1"
    found = key(any_objects).find()
    assert found is not None
    assert found.id == "edit_1"
    for other in (key(any_objects, body="b"), key(any_objects, route="POST /v1/exports")):
        with pytest.raises(Conflict) as conflict:
            other.find()
        assert conflict.value.code == "idempotency_key_reused"
        with pytest.raises(Conflict):
            other.claim("edit", "edit_3")


def test_a_key_is_forgotten_after_thirty_days(
    objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    key(objects).claim("edit", "edit_1")
    later = time.time() + 31 * 24 * 3600
    monkeypatch.setattr(idempotency.time, "time", lambda: later)
    assert key(objects, body="b").find() is None
    assert key(objects, body="b").claim("edit", "edit_2") == "edit_2"


def test_bodies_are_compared_by_what_they_mean() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": [1, 2]}) != digest({"a": [2, 1]})


@pytest.mark.parametrize("text", ["", "a" * 256])
def test_a_key_has_a_length(objects: ObjectStore, text: str) -> None:
    with pytest.raises(Malformed):
        IdempotencyKey(objects, "default", text, "POST /v1/edits", "")
