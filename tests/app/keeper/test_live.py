"""Leases and heartbeats in a real Redis."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest
import redis

from models_store.errors import Unavailable
from models_store.live import keys as redis_keys
from models_store.live.heartbeats import (
    HEARTBEAT_LIFE_SECONDS,
    Heartbeat,
    editors_seen,
    signed,
)
from models_store.live.leases import (
    TokenLease,
    attempt_lease,
    connect,
    death_notices,
    leases_seen,
    wake_keeper,
)
from models_store.settings import Settings
from tests.app.keeper.conftest import World

ID = "edit_01ARZ3NDEKTSV4RRFFQ69G5FAV"


def test_a_lease_is_held_by_one_and_taken_again_by_its_holder(client: redis.Redis) -> None:
    mine, other = (TokenLease(client, "key", value, 10) for value in ("mine", "other"))
    assert mine.take()
    assert mine.take(), "the answer to the first try may have been lost"
    assert not other.take()
    mine.release()
    assert other.take()


def test_only_the_holder_renews_and_releases(client: redis.Redis) -> None:
    mine, other = (TokenLease(client, "key", value, 10) for value in ("mine", "other"))
    assert mine.renew() == "missing"
    assert not client.exists("key"), "a lease that is gone stays gone until it is taken"
    mine.take()
    assert other.renew() == "taken"
    other.release()
    assert mine.renew() == "renewed"


def test_renewing_lengthens_a_lease(client: redis.Redis) -> None:
    lease = TokenLease(client, "key", "mine", 10)
    lease.take()
    client.pexpire("key", 1000)
    lease.renew()
    assert client.pttl("key") > 9000  # type: ignore[operator]


def test_a_later_attempt_takes_the_lease_of_an_earlier_one(client: redis.Redis) -> None:
    first, second = (attempt_lease(client, ID, number, 10) for number in (1, 2))
    first.replace()
    second.replace()
    assert first.renew() == "taken"
    assert leases_seen(client, [ID, "edit_other"])[ID].attempt == 2


def test_what_is_no_lease_is_seen_as_none(client: redis.Redis) -> None:
    client.set(redis_keys.lease(ID), "nonsense", px=1000)
    client.set(redis_keys.lease("edit_for_ever"), "1:token")  # without an end
    client.set(redis_keys.death(ID), "nonsense")
    assert leases_seen(client, [ID, "edit_for_ever"]) == {}
    assert death_notices(client, [ID]) == {}


def test_a_heartbeat_beats_and_is_taken_away(client: redis.Redis) -> None:
    state = {"state": "idle"}
    with Heartbeat(client, "beat", "token", lambda: state, seconds=0.05) as heartbeat:
        deadline = time.monotonic() + 5
        while client.get("beat") != signed("token", "beat", b'{"state": "idle"}'):
            assert time.monotonic() < deadline
        assert 0 < client.ttl("beat") <= HEARTBEAT_LIFE_SECONDS  # type: ignore[operator]
        state["state"] = "busy"
        heartbeat.beat()
        while client.get("beat") != signed("token", "beat", b'{"state": "busy"}'):
            assert time.monotonic() < deadline
        client.flushall()
        while not client.exists("beat"):
            assert time.monotonic() < deadline
    assert not client.exists("beat")


def test_a_heartbeat_outlives_an_outage(tmp_path: Path) -> None:
    client = connect(Settings(redis_url=f"unix://{tmp_path}/none.sock"))
    with Heartbeat(client, "beat", "", dict, seconds=0.01):
        time.sleep(0.1)
        assert "heartbeat" in {thread.name for thread in threading.enumerate()}
    client.close()


def test_editors_are_seen_and_what_is_not_signed_by_one_is_not(
    client: redis.Redis, world: World
) -> None:
    world.editor("editor-1")
    own = f"{redis_keys.EDITORS}editor-1"
    value = client.get(own)
    assert isinstance(value, bytes)
    forged = {
        "odd": b"nonsense",
        "unsigned": value.partition(b" ")[2],
        "copied": value,
        "guessed": signed("guess", f"{redis_keys.EDITORS}guessed", value.partition(b" ")[2]),
        "empty": b"",
        "changed": value.replace(b"cpu", b"gpu"),
    }
    for name, sent in forged.items():
        client.set(f"{redis_keys.EDITORS}{name}", sent)
    assert [editor.name for editor in editors_seen(client, "")] == ["editor-1"]
    client.set(own, forged["changed"])
    assert editors_seen(client, "") == []


def test_calls_for_the_keeper_do_not_pile_up(client: redis.Redis) -> None:
    for _ in range(100):
        wake_keeper(client)
    assert 1 <= client.llen(redis_keys.WAKE) <= 16  # type: ignore[operator]


def test_no_redis_at_all_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="SCALPEL_REDIS_URL"):
        connect(Settings(data=tmp_path))


def test_a_redis_that_hangs_is_given_up_soon(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        client = connect(Settings(redis_url=f"unix://{tmp_path}/s"))
        began = time.monotonic()
        with pytest.raises(redis.TimeoutError):
            client.get("key")
        assert time.monotonic() - began < 5
        client.close()
