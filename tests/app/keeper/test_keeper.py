"""The keeper over a real store and a real Redis."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import zlib
from collections.abc import Callable

import pytest
import redis

from app.loops.keeper import Keeper, recover_once
from models_store.live import keys as redis_keys
from models_store.live.leases import DeathNotice, leases_seen, notify_death
from models_store.live.queue import STOP_COMMAND, WorkQueue
from models_store.schemas.records import AttemptEnd, Claim, ErrorInfo, Marker, Result
from models_store.settings import Settings
from models_store.work.store import Place, WorkStore
from tests.app.keeper.conftest import LEASE_SECONDS, World


def look_until(keeper: Keeper, done: Callable[[], bool], seconds: float = 5.0) -> None:
    limit = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < limit, "the keeper does not do it"
        keeper.look()
        time.sleep(0.02)


def end_of(world: World, place: Place, attempt: int = 1) -> AttemptEnd | None:
    return world.read(place).ends[attempt - 1]


def death_of(claim: Claim, *, on_purpose: bool = False) -> DeathNotice:
    return DeathNotice(
        worker=claim.worker,
        host=claim.host,
        pid=claim.pid,
        reason="signal 9",
        on_purpose=on_purpose,
    )


def test_queued_work_is_rung_once_where_an_editor_has_room(keeper: Keeper, world: World) -> None:
    place = world.submit()
    keeper.look()
    assert world.queue() == [], "nobody is there to do it"
    world.editor()
    for _ in range(3):
        keeper.look()
    assert world.queue() == [f"{place.id}-1-1"]


def test_the_job_names_the_work_and_nothing_more(keeper: Keeper, world: World) -> None:
    place = world.submit()
    world.editor()
    keeper.look()
    (job,) = world.queue()
    data = world.client.hget(f"rq:job:{job}", "data")
    assert isinstance(data, bytes)
    assert json.loads(zlib.decompress(data)) == [
        "workers.editor.job.run",
        None,
        ["edit", "default", place.id],
        {},
    ]


def test_no_more_is_rung_than_editors_have_room_for(keeper: Keeper, world: World) -> None:
    places = [world.submit() for _ in range(5)]
    world.editor("editor-1")
    world.editor("editor-2")
    keeper.look()
    assert len(world.queue()) == 2
    world.answer_all()
    world.claim(places[0], "editor-1")
    world.claim(places[1], "editor-2")
    keeper.look()
    assert world.queue() == [], "both are busy"


def test_editors_of_another_pool_get_nothing(keeper: Keeper, world: World) -> None:
    world.submit(pool="gpu-80g")
    world.editor(pool="cpu")
    keeper.look()
    assert world.queue("cpu") == world.queue("gpu-80g") == []
    world.editor("editor-2", pool="gpu-80g")
    keeper.look()
    assert len(world.queue("gpu-80g")) == 1


def test_an_attempt_of_an_editor_that_is_gone_takes_no_room(keeper: Keeper, world: World) -> None:
    world.claim(world.submit(), "gone")
    other = world.submit()
    world.editor("editor-2")
    keeper.look()
    assert world.queue() == [f"{other.id}-1-1"]


def test_a_ring_that_nobody_answers_is_made_again(
    keeper: Keeper, world: World, settings: Settings
) -> None:
    place = world.submit()
    world.editor()
    keeper.look()
    world.answer_all()
    keeper.look()
    assert world.queue() == []
    time.sleep(settings.ring_seconds)
    keeper.look()
    assert world.queue() == [f"{place.id}-1-2"]


def test_a_ring_that_waits_in_the_queue_is_not_made_again(
    keeper: Keeper, world: World, settings: Settings
) -> None:
    world.submit()
    world.editor()
    keeper.look()
    time.sleep(settings.ring_seconds)
    keeper.look()
    assert len(world.queue()) == 1


def test_after_a_flush_everything_queued_is_rung_again(keeper: Keeper, world: World) -> None:
    places = [world.submit() for _ in range(2)]
    world.editor("editor-1")
    world.editor("editor-2")
    keeper.look()
    world.client.flushall()
    world.editor("editor-1")
    world.editor("editor-2")
    keeper.look()
    assert sorted(world.queue()) == sorted(f"{place.id}-1-1" for place in places)


def test_tenants_are_rung_for_in_turn(keeper: Keeper, world: World) -> None:
    for _ in range(3):
        world.submit("big")
    small = world.submit("small")
    world.editor("editor-1")
    world.editor("editor-2")
    keeper.look()
    assert f"{small.id}-1-1" in world.queue()


def test_an_attempt_that_falls_silent_is_ended_and_followed_by_the_next(
    keeper: Keeper, world: World
) -> None:
    place = world.submit()
    world.claim(place)
    look_until(keeper, lambda: end_of(world, place) is not None)
    end = end_of(world, place)
    assert end is not None
    assert (end.outcome, end.child_died) == ("lost", False)
    assert world.read(place).status == "running", "a status never goes back to queued"
    world.editor("editor-2")
    keeper.look()
    assert world.queue() == [f"{place.id}-2-1"]
    assert world.claim(place, "editor-2").attempt == 2


def test_an_attempt_that_renews_its_lease_is_left_alone(keeper: Keeper, world: World) -> None:
    place = world.submit()
    claim = world.claim(place, leased=False)
    lease = world.lease(place, claim)
    limit = time.monotonic() + 4 * LEASE_SECONDS
    while time.monotonic() < limit:
        lease.replace()
        keeper.look()
        time.sleep(LEASE_SECONDS / 4)
    assert end_of(world, place) is None


def test_a_flush_does_not_cost_a_living_attempt_its_life(keeper: Keeper, world: World) -> None:
    place = world.submit()
    claim = world.claim(place, leased=False)
    lease = world.lease(place, claim)
    lease.replace()
    keeper.look()
    time.sleep(LEASE_SECONDS * 0.9)
    world.client.flushall()
    keeper.look()
    keeper.look()
    time.sleep(LEASE_SECONDS / 3)  # when the attempt renews, as it does three times a lease
    assert lease.renew() == "missing"
    lease.replace()
    keeper.look()
    assert end_of(world, place) is None


def test_a_reported_death_ends_the_attempt_at_once_and_counts(keeper: Keeper, world: World) -> None:
    place = world.submit()
    claim = world.claim(place)
    keeper.look()
    notify_death(world.client, place.id, death_of(claim))
    keeper.look()
    end = end_of(world, place)
    assert end is not None
    assert end.error is not None
    assert (end.outcome, end.child_died) == ("lost", True)
    assert "signal 9" in end.error.message


def test_a_process_that_its_editor_ended_does_not_count_as_a_death(
    keeper: Keeper, world: World
) -> None:
    place = world.submit()
    claim = world.claim(place)
    notify_death(world.client, place.id, death_of(claim, on_purpose=True))
    keeper.look()
    end = end_of(world, place)
    assert end is not None
    assert (end.outcome, end.child_died) == ("lost", False)


def test_news_of_an_earlier_process_does_not_touch_the_next_attempt(
    keeper: Keeper, world: World
) -> None:
    place = world.submit()
    first = world.claim(place)
    notify_death(world.client, place.id, death_of(first).model_copy(update={"pid": 1}))
    keeper.look()
    assert end_of(world, place) is None


def test_work_whose_process_keeps_dying_fails_with_its_attempts_told(
    keeper: Keeper, world: World, settings: Settings
) -> None:
    place = world.submit()
    for _ in range(settings.max_deaths):
        claim = world.claim(place)
        notify_death(world.client, place.id, death_of(claim))
        keeper.look()
    work = world.read(place)
    assert work.result is not None
    assert work.result.error is not None
    assert (work.status, work.result.error.code) == ("failed", "worker_lost")
    assert work.result.attempt == 3
    assert work.result.error.message.count("signal 9") == 3
    assert list(world.store.open_work()) == []


def test_queued_work_fails_when_its_deadline_passes(keeper: Keeper, world: World) -> None:
    place = world.submit(deadline=-1)
    keeper.look()
    result = world.read(place).result
    assert result is not None
    assert result.error is not None
    assert result.error.code == "deadline"


def test_an_end_without_a_result_is_completed(keeper: Keeper, world: World) -> None:
    place = world.submit()
    claim = world.claim(place)
    end = AttemptEnd(attempt=claim.attempt, outcome="succeeded", outcome_data={"points": []})
    assert world.store.end_attempt(place, end)
    keeper.look()
    result = world.read(place).result
    assert result is not None
    assert (result.status, result.outcome_data) == ("succeeded", {"points": []})
    assert list(world.store.open_work()) == []


def test_a_sealed_attempt_cannot_publish(keeper: Keeper, world: World) -> None:
    place = world.submit()
    claim = world.claim(place)
    notify_death(world.client, place.id, death_of(claim))
    keeper.look()
    assert not world.store.publish(place, AttemptEnd(attempt=1, outcome="succeeded"))
    assert world.read(place).result is None


def test_work_that_is_handed_back_is_begun_again(keeper: Keeper, world: World) -> None:
    place = world.submit()
    world.claim(place)
    world.editor()
    error = ErrorInfo(code="handed_back", message="the editor was stopped")
    world.store.publish(place, AttemptEnd(attempt=1, outcome="handed_back", error=error))
    keeper.look()
    assert world.queue() == [f"{place.id}-2-1"]


def test_the_marker_of_finished_work_is_cleared_away(keeper: Keeper, world: World) -> None:
    place = world.submit()
    world.store.finish(place, Result(status="canceled", attempt=0))
    world.store.objects.create_record(place.marker, Marker(kind="edit"))
    keeper.look()
    assert list(world.store.open_work()) == []


def test_a_marker_whose_work_is_not_there_yet_is_left_alone(
    keeper: Keeper, world: World, store: WorkStore
) -> None:
    place = Place("edit", "default", "edit_01ARZ3NDEKTSV4RRFFQ69G5FAV")
    store.objects.create_record(place.marker, Marker(kind="edit"))
    keeper.look()
    assert store.objects.info(place.marker) is not None


def test_odd_things_among_the_markers_do_not_stop_the_keeper(
    keeper: Keeper, world: World, store: WorkStore
) -> None:
    place, empty = world.submit(), world.submit()
    store.objects.put(empty.marker, b"")
    store.objects.create("open/default/notes.txt", b"hello")
    unreadable = world.submit()
    store.objects.put(f"{unreadable.folder}/request.json", b"{")
    for name in ("editor-1", "editor-2", "editor-3"):
        world.editor(name)
    keeper.look()
    assert sorted(world.queue()) == sorted(f"{one.id}-1-1" for one in (place, empty))


def test_the_process_of_canceled_work_is_stopped_until_its_lease_is_gone(
    keeper: Keeper, world: World, client: redis.Redis
) -> None:
    place = world.submit()
    claim = world.claim(place, leased=False)
    lease = world.lease(place, claim, seconds=30)
    lease.replace()
    keeper.look()
    channel = client.pubsub()
    channel.subscribe(f"rq:pubsub:{claim.worker}")
    world.store.cancel("edit", "default", place.id)
    for _ in range(4):
        keeper.look()
    told = [message["data"] for message in iter(lambda: channel.get_message(timeout=0.2), None)]
    commands = [json.loads(data) for data in told if isinstance(data, bytes)]
    assert {"command": STOP_COMMAND, "pid": claim.pid} in commands
    lease.release()
    keeper.look()
    keeper.look()
    assert leases_seen(client, [place.id]) == {}
    while channel.get_message(timeout=0.05):
        pass
    keeper.look()
    assert channel.get_message(timeout=0.2) is None
    channel.close()


def test_one_keeper_leads_and_the_other_takes_over_when_it_is_gone(
    keeper: Keeper, world: World, client: redis.Redis, settings: Settings
) -> None:
    other = Keeper(world.store.objects, client, settings)
    assert keeper.look()
    assert not other.look()
    client.delete(redis_keys.KEEPER)  # what its end, or its absence for 5 seconds, does
    assert other.look()
    assert not keeper.look()


def test_two_keepers_that_both_believe_they_lead_do_no_harm(
    world: World, client: redis.Redis, settings: Settings
) -> None:
    keepers = [Keeper(world.store.objects, client, settings) for _ in range(2)]
    places = [world.submit() for _ in range(3)]
    for place in places:
        claim = world.claim(place)
        notify_death(client, place.id, death_of(claim))
    threads = [
        threading.Thread(target=lambda keeper=keeper: keeper.look(alone=True)) for keeper in keepers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for place in places:
        work = world.read(place)
        assert work.attempt == 1
        end = work.ends[0]
        assert end is not None
        assert end.outcome == "lost"


def test_the_loop_wakes_up_when_it_is_called(
    keeper: Keeper, world: World, client: redis.Redis
) -> None:
    world.editor()
    thread = threading.Thread(target=lambda: asyncio.run(keeper.run()))
    thread.start()
    try:
        limit = time.monotonic() + 5
        while not client.exists(redis_keys.KEEPER):
            assert time.monotonic() < limit
        place = world.submit()
        client.lpush(redis_keys.WAKE, "1")
        while world.queue() != [f"{place.id}-1-1"]:
            assert time.monotonic() < limit
            time.sleep(0.01)
    finally:
        keeper.stop()
        thread.join(5)
    assert not thread.is_alive()
    assert not client.exists(redis_keys.KEEPER), "a keeper that stops lets another lead at once"


def test_recovery_by_hand_seals_what_is_dead_and_rings(world: World, settings: Settings) -> None:
    dead, queued = world.submit(), world.submit()
    world.claim(dead, leased=False)
    world.editor("editor-2")
    world.editor("editor-3")
    assert recover_once(settings) == "2 open; 2 rung, 1 sealed"
    assert sorted(world.queue()) == sorted([f"{dead.id}-2-1", f"{queued.id}-1-1"])


def test_the_ring_for_canceled_work_is_taken_back(
    keeper: Keeper, world: World, client: redis.Redis
) -> None:
    place, other = world.submit(), world.submit()
    world.editor("editor-1")
    world.editor("editor-2")
    keeper.look()
    world.store.cancel("edit", "default", place.id)
    keeper.look()
    assert world.queue() == [f"{other.id}-1-1"]
    assert list(WorkQueue(client).last_jobs([place.id, other.id])) == [other.id]


def test_a_keeper_that_takes_over_knows_of_rings_that_were_made(
    keeper: Keeper, world: World, client: redis.Redis, settings: Settings
) -> None:
    world.submit()
    world.editor()
    keeper.look()
    client.delete(redis_keys.KEEPER)
    Keeper(world.store.objects, client, settings).look()
    assert len(world.queue()) == 1


@pytest.mark.parametrize("work_ids", [[], ["edit_unknown"]])
def test_nothing_is_rung_for_what_is_not_known(client: redis.Redis, work_ids: list[str]) -> None:
    assert WorkQueue(client).last_jobs(work_ids) == {}
    assert leases_seen(client, work_ids) == {}
