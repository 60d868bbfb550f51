"""The events of an edit, folded from its records."""

from __future__ import annotations

import pytest

from app.domain.edits.queue_line import QueueLine
from app.domain.events.events import Event, durable_events, final_id, merged, stage_id
from app.domain.events.live_state import LiveState
from models_store.schemas.records import STAGES
from models_store.settings import Settings
from models_store.work.store import WorkStore
from tests.models_store.make import edit_request, end, finished_edit, place_of


def ids_of(work: WorkStore, id: str) -> list[tuple[int | None, str]]:
    return [(one.id, one.type) for one in durable_events(work.read("edit", "default", id))]


def test_ids_grow_with_what_happens(work: WorkStore) -> None:
    request = edit_request()
    place = place_of(request)
    work.submit(request)
    told = [(1, "edit.created")]
    assert ids_of(work, request.id) == told
    work.claim(place, "w")
    told.append((16, "edit.started"))
    assert ids_of(work, request.id) == told
    work.end_attempt(place, end(1, "lost"))
    told.append((30, "edit.attempt_ended"))
    assert ids_of(work, request.id) == told
    work.claim(place, "w")
    work.publish(place, end(2, "succeeded", "delta"))
    told += [(32, "edit.started"), (46, "edit.attempt_ended"), (47, "edit.succeeded")]
    assert ids_of(work, request.id) == told


def test_stages_lie_between_the_start_and_the_end_of_their_attempt() -> None:
    numbers = [stage_id(3, stage) for stage in STAGES]
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 48
    assert numbers[-1] < 48 + 14


def test_the_final_event_of_a_canceled_edit_is_the_last_whatever_comes_later(
    work: WorkStore,
) -> None:
    request = edit_request()
    place = place_of(request)
    work.submit(request)
    work.claim(place, "w")
    work.cancel("edit", "default", request.id)
    before = ids_of(work, request.id)
    assert before[-1] == (31, "edit.canceled")
    work.end_attempt(place, end(1, "handed_back"))
    assert ids_of(work, request.id) == before


@pytest.mark.parametrize(("outcome", "type"), [("succeeded", "succeeded"), ("failed", "failed")])
def test_the_final_event_says_how_it_ended(work: WorkStore, outcome: str, type: str) -> None:
    id = finished_edit(work, outcome=outcome)  # type: ignore[arg-type]
    edit = work.read("edit", "default", id)
    last = durable_events(edit)[-1]
    assert edit.result is not None
    assert (last.id, last.type) == (final_id(edit.result), f"edit.{type}")
    assert last.data["status"] == type
    assert last.data["variant"] == (f"pico:{id}" if outcome == "succeeded" else None)


def event(id: int | None) -> Event:
    return Event(id=id, type="edit.stage", edit_id="e", created_at=0, data={})


def test_stages_of_an_attempt_that_is_not_told_of_yet_wait() -> None:
    durable = [event(1), event(16)]
    stages = [event(18), event(17), event(17), event(33), event(None)]
    assert [one.id for one in merged(durable, stages, attempts=1)] == [1, 16, 17, 18]


def test_without_redis_nobody_knows_the_place_in_the_queue(work: WorkStore) -> None:
    request = edit_request()
    queued = work.submit(request)
    live = LiveState(Settings(redis_url="unix:///nowhere.sock"))
    assert QueueLine.read(work, live, queued.request.tenant).position(queued) is None
    assert live.progress([request.id]) == {}
    assert live.events(request.id) == []
    assert live.generators() is None
    assert not live.is_up()
