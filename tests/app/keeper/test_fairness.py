"""A long queue of one tenant: others are not held up, and the keeper's looks stay short."""

from __future__ import annotations

import time

import pytest
import redis

from app.loops.keeper import Keeper
from models_store.schemas.records import Result
from models_store.settings import Settings
from models_store.work.store import Place, WorkStore
from tests.app.keeper.conftest import World
from tests.support.queued import queue_many

EDITORS = ("editor-1", "editor-2")


def enqueued(world: World) -> list[str]:
    """Ids of the work that is in the queue."""
    return [job.rpartition("-")[0].rpartition("-")[0] for job in world.queue()]


class Editors:
    """Two editors that take what is enqueued, and end it on demand."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.running: list[Place] = []
        self.begun: list[str] = []
        """Tenants, in the order in which their edits began."""
        for name in EDITORS:
            world.editor(name)

    def take(self, places: dict[str, Place]) -> None:
        for id in enqueued(self.world):
            place = places[id]
            self.world.claim(place, EDITORS[len(self.running) % 2])
            self.running.append(place)
            self.begun.append(place.tenant)
        self.world.answer_all()

    def end_one(self) -> None:
        place = self.running.pop(0)
        self.world.store.finish(place, Result(status="canceled", attempt=1))


def test_a_thousand_queued_edits_delay_another_tenants_first_by_one_a_slot(
    keeper: Keeper, world: World, store: WorkStore, settings: Settings
) -> None:
    places = {one.id: one for one in queue_many(settings.data / "store", "big", 1_000)}
    editors = Editors(world)
    for _ in range(5):
        keeper.look()
        editors.take(places)
        if editors.running:
            editors.end_one()

    small = world.submit("small")
    places[small.id] = small
    before = len(editors.begun)
    while "small" not in editors.begun:
        assert len(editors.begun) - before <= len(EDITORS)
        keeper.look()
        editors.take(places)
        editors.end_one()

    since = editors.begun[before:]
    assert since.index("small") <= len(EDITORS)


def test_a_keeper_that_takes_over_a_long_queue_finds_others_edits_at_once(
    world: World, settings: Settings, store: WorkStore, client: redis.Redis
) -> None:
    queue_many(settings.data / "store", "big", 4_000)
    small = world.submit("small")
    for name in EDITORS:
        world.editor(name)

    Keeper(store.objects, client, settings).look()  # it cannot read all of them in one look

    assert small.id in enqueued(world)


@pytest.mark.slow
def test_a_keeper_with_ten_thousand_queued_edits_looks_around_quickly(
    keeper: Keeper, world: World, settings: Settings
) -> None:
    queue_many(settings.data / "store", "big", 10_000)
    limit = time.monotonic() + 400
    while not keeper.open_count or any(entry.seen is None for entry in keeper._open.values()):
        assert time.monotonic() < limit
        keeper.look()

    def cost() -> float:
        started = time.process_time()
        keeper.look()
        return time.process_time() - started

    world.submit("small")  # the folders have changed, so they are read again
    assert min(cost() for _ in range(3)) < 0.3
    # Work that waits for long is read again, a part of it in each look.
    for entry in keeper._open.values():
        entry.read_at -= 3600
    assert min(cost() for _ in range(3)) < 0.4
