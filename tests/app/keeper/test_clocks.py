"""Clocks that are hours wrong: no edit is ended for it."""

from __future__ import annotations

import time

import pytest
import redis

from app.loops.keeper import Keeper
from models_store.live.clock import SharedClock, redis_time
from models_store.live.queue import WorkQueue
from models_store.settings import Settings
from models_store.work.store import WorkStore
from tests.app.keeper.conftest import World
from tests.app.support.worker import Worker, edit_body
from tests.support.services import Api

HOURS = 3600.0


def wrong_by(client: redis.Redis, seconds: float) -> SharedClock:
    return SharedClock(lambda: redis_time(client), lambda: time.time() + seconds)


@pytest.mark.parametrize("hours", [-7, 7])
def test_a_keeper_with_a_wrong_clock_ends_nothing_and_enqueues_all(
    store: WorkStore, client: redis.Redis, settings: Settings, world: World, hours: int
) -> None:
    places = [world.submit(deadline=deadline) for deadline in (60.0, 6 * HOURS, -6 * HOURS)]
    world.editor("editor-1")
    Keeper(store.objects, client, settings, clock=wrong_by(client, hours * HOURS)).look()
    assert [world.read(place).status for place in places] == ["queued"] * 3
    jobs = WorkQueue(client).last_jobs([place.id for place in places])
    assert jobs
    for job in jobs.values():
        (timeout,) = client.hmget(f"rq:job:{job.job_id}", "timeout")
        assert int(timeout) >= settings.edit_deadline_seconds, "RQ does not end it early"
    # Set right, it decides again.
    Keeper(store.objects, client, settings).look(alone=True)
    assert [world.read(place).status for place in places] == ["queued", "queued", "failed"]


def test_who_cannot_reach_redis_decides_nothing_and_a_small_difference_is_put_right() -> None:
    assert SharedClock(lambda: None).trusted() is None
    clock = SharedClock(lambda: 1000.0, lambda: 970.0)
    assert clock.trusted() == clock.now() == 1000.0
    assert SharedClock(lambda: 1000.0, lambda: 930.0).trusted() is None


def test_a_difference_is_looked_for_now_and_then_and_what_was_known_stays() -> None:
    asked: list[float | None] = [1000.0, None]
    clock = SharedClock(lambda: asked.pop(0), lambda: 990.0)
    assert clock.now() == 1000.0
    assert len(asked) == 1
    clock.now()
    assert len(asked) == 1, "not asked again at once"
    clock._compared_at = float("-inf")
    assert clock.trusted() == 1000.0
    assert asked == []


@pytest.mark.parametrize("hours", [-7, 7])
def test_the_deadline_of_a_request_is_by_the_clock_of_redis(
    api: Api, worker: Worker, hours: int
) -> None:
    clock = wrong_by(api.services.live.client, hours * HOURS)
    submission = api.store.submission
    submission._now = clock.now
    edit = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    work = api.store.work.read("edit", "default", edit)
    left = work.request.deadline - time.time()
    assert abs(left - api.services.settings.edit_deadline_seconds) < 60
