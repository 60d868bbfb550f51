"""What an editor tells through Redis, and what it does when that is away."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from models_store.errors import InvalidRequest, Unavailable
from models_store.live import keys as redis_keys
from models_store.live.leases import connect
from models_store.settings import Settings
from tests.support.progress import shares_of
from tests.support.services import RedisServer
from workers import progress
from workers.editor.process.patience import patiently
from workers.editor.process.progress import ProgressReporter

ID = "edit_01ARZ3NDEKTSV4RRFFQ69G5FAV"


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    client = connect(Settings(redis_url=redis_server.url))
    yield client
    client.close()


def events(client: redis.Redis) -> list[tuple[str, dict[str, object]]]:
    entries = client.xrange(redis_keys.events(ID))
    return [
        (fields[b"type"].decode(), json.loads(fields[b"data"]))
        for _, fields in entries  # type: ignore[union-attr]
    ]


def test_stages_and_their_progress_become_events(client: redis.Redis) -> None:
    report = ProgressReporter(client, ID, attempt=2)
    report("load", 0.0)
    report("extract", 0.0)
    time.sleep(0.3)
    report("extract", 0.5)
    report("probe", 0.0)
    assert events(client) == [
        ("edit.stage", {"attempt": 2, "stage": "extract", "progress": 0.0}),
        ("edit.progress", {"attempt": 2, "stage": "extract", "progress": 0.5}),
        ("edit.stage", {"attempt": 2, "stage": "probe", "progress": 0.0}),
    ]
    assert client.hgetall(redis_keys.progress(ID)) == {
        b"attempt": b"2",
        b"stage": b"probe",
        b"progress": b"0.0",
    }


def test_the_first_stage_is_shown_though_the_records_tell_of_it(client: redis.Redis) -> None:
    ProgressReporter(client, ID, attempt=1)("load", 0.0)
    assert client.hget(redis_keys.progress(ID), "stage") == b"load"
    assert events(client) == []


def test_a_busy_stage_does_not_flood_redis(client: redis.Redis) -> None:
    report = ProgressReporter(client, ID, attempt=1)
    for step in range(1000):
        report("extract", step / 1000)
    assert len(events(client)) < 10


def test_the_work_goes_on_when_redis_is_away(tmp_path: Path) -> None:
    client = connect(Settings(redis_url=f"unix://{tmp_path}/none.sock"))
    report = ProgressReporter(client, ID, attempt=1)
    began = time.monotonic()
    for step in range(1000):
        report("extract", step / 1000)
    assert time.monotonic() - began < 2
    client.close()


def failing(times: int) -> Callable[[], str]:
    """Raises so many times that the store is away, then answers."""
    left = [times]

    def action() -> str:
        if left[0]:
            left[0] -= 1
            raise Unavailable("away", code="store_unavailable")
        return "there"

    return action


def test_a_store_that_comes_back_is_waited_for() -> None:
    assert patiently(failing(2), seconds=5) == "there"


def test_a_store_that_stays_away_is_given_up() -> None:
    with pytest.raises(Unavailable):
        patiently(failing(10**6), seconds=0.5)


def test_other_errors_are_not_waited_for() -> None:
    def refused() -> None:
        raise InvalidRequest("no")

    with pytest.raises(InvalidRequest):
        patiently(refused, seconds=60)


def test_the_first_stage_counts_from_the_beginning_of_the_process() -> None:
    with progress.watch(lambda stage, share: None, began=time.monotonic() - 10) as work:
        with progress.step("load"):
            pass
        with progress.step("extract"):
            pass
    assert work.seconds["load"] >= 10
    assert work.seconds["extract"] < 1
    assert work.total_seconds >= 10


def test_a_stage_that_is_taken_up_again_goes_on_from_where_it_was() -> None:
    told: list[tuple[str, float]] = []
    with progress.watch(lambda stage, share: told.append((stage, share))) as work:
        for weight in (0.8, 1.0):
            with progress.step("extract"), progress.step("part", weight):
                progress.advance(1, 2)
    expected = [0.0, 0.4, 0.8, 0.9, 1.0]
    assert told == [("extract", pytest.approx(share)) for share in expected]
    assert set(work.seconds) == {"extract"}


def test_parts_of_a_stage_share_its_progress() -> None:
    with shares_of() as told:
        with progress.step("first", 0.5):
            pass
        with progress.step("second", 0.4):
            for share in (0.0, 0.5, 1.0):
                progress.advance(share, 1.0)
        assert told == pytest.approx([0.5, 0.5, 0.7, 0.9, 0.9])
