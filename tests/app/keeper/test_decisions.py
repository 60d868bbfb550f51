"""What the keeper decides, by cases and by property."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.loops.keeper.decisions import Busy, DueWork, Pulse, Turns, due_at, is_about, verdict
from models_store.ids import new_id
from models_store.live.leases import DeathNotice, LeaseSeen
from models_store.schemas.records import AttemptEnd, Claim, EditSettings, Outcome, WorkRequest
from models_store.settings import Settings
from models_store.work.store import Place, Work, kind_of
from workers.surgery.methods.bias import Bias

SETTINGS = Settings(lease_seconds=15, max_deaths=3, max_attempts=10)
LEASE = SETTINGS.lease_seconds


def claim(attempt: int = 1) -> Claim:
    return Claim(attempt=attempt, worker="w", host="h", pid=7)


def work(*ends: tuple[Outcome, bool], deadline: float = 3600, ended_at: float = 0.0) -> Work:
    """Work whose attempts ended so: outcome, and whether the process died of itself."""
    request = WorkRequest(
        id="edit_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        kind="edit",
        tenant="t",
        deadline=int(time.time() + deadline),
        body={},
        settings=EditSettings(method=Bias()),
        base_model="pico",
    )
    numbered = list(enumerate(ends, start=1))
    return Work(
        request,
        tuple(claim(n) for n, _ in numbered),
        tuple(
            AttemptEnd(attempt=n, outcome=outcome, child_died=died, ended_at=ended_at)
            for n, (outcome, died) in numbered
        ),
        None,
    )


@pytest.mark.parametrize("kind", ["edit", "export", "base_model"])
def test_an_id_tells_what_kind_of_work_it_is(kind: str) -> None:
    assert kind_of(new_id(kind)) == kind


@pytest.mark.parametrize(
    "id",
    [
        "",
        "edit_",
        "edit_short",
        "beh_01M86MF7Z6K16E8DPJFKCVCFJP",
        "xedit_01M86MF7Z6K16E8DPJFKCVCFJP",
        "edit_" + "é" * 26,
    ],
)
def test_what_is_no_id_of_work_has_no_kind(id: str) -> None:
    assert kind_of(id) is None


def test_an_attempt_with_a_lease_is_alive_however_long_it_takes() -> None:
    pulse = Pulse(1, last_sign=0.0)
    for now in range(1000):
        pulse.look(now, LeaseSeen(1, LEASE - 5), LEASE)
        assert not pulse.is_lost(now, 0.0, LEASE)


def test_an_attempt_is_lost_when_it_was_silent_for_a_lease_and_missed_twice() -> None:
    pulse = Pulse(1, last_sign=0.0)
    pulse.look(100.0, LeaseSeen(1, 1.0), LEASE)  # renewed 14 seconds ago
    pulse.look(101.1, None, LEASE)
    assert not pulse.is_lost(101.1, 0.0, LEASE)
    pulse.look(102.1, None, LEASE)
    assert pulse.is_lost(102.1, 0.0, LEASE)


def test_a_lease_that_vanished_early_leaves_its_holder_the_time_to_take_it_again() -> None:
    pulse = Pulse(1, last_sign=0.0)
    pulse.look(100.0, LeaseSeen(1, LEASE), LEASE)
    for now in (101.0, 102.0, 114.9):
        pulse.look(now, None, LEASE)
        assert not pulse.is_lost(now, 0.0, LEASE)
    pulse.look(115.1, None, LEASE)
    assert pulse.is_lost(115.1, 0.0, LEASE)


def test_a_keeper_that_could_not_see_counts_silence_from_when_it_could() -> None:
    pulse = Pulse(1, last_sign=0.0)
    pulse.look(100.0, None, LEASE)
    pulse.look(101.0, None, LEASE)
    assert not pulse.is_lost(101.0, 99.0, LEASE)
    assert pulse.is_lost(114.0, 99.0, LEASE)


def test_the_lease_of_another_attempt_is_no_sign_of_life() -> None:
    pulse = Pulse(2, last_sign=0.0)
    for now in (100.0, 101.0):
        pulse.look(now, LeaseSeen(1, LEASE), LEASE)
    assert pulse.is_lost(101.0, 0.0, LEASE)


def test_a_notice_is_about_one_process_only() -> None:
    notice = DeathNotice(worker="w", host="h", pid=7, reason="signal 9", on_purpose=False)
    assert is_about(notice, claim())
    assert not is_about(notice.model_copy(update={"pid": 8}), claim())
    assert not is_about(notice.model_copy(update={"worker": "v"}), claim())
    assert not is_about(None, claim())


def test_only_deaths_of_the_process_count_towards_the_limit_of_deaths() -> None:
    lost, handed_back = ("lost", False), ("handed_back", False)
    died: tuple[Outcome, bool] = ("lost", True)
    assert verdict(work(died, died), time.time(), SETTINGS) is None
    assert verdict(work(*[lost, handed_back] * 4), time.time(), SETTINGS) is None  # type: ignore[arg-type]
    given_up = verdict(work(died, lost, died, died), time.time(), SETTINGS)  # type: ignore[arg-type]
    assert given_up is not None
    assert given_up.code == "worker_lost"
    assert "3 times" in given_up.message


def test_ten_attempts_of_any_kind_are_enough() -> None:
    given_up = verdict(work(*[("lost", False)] * 10), time.time(), SETTINGS)
    assert given_up is not None
    assert given_up.code == "worker_lost"


def test_work_past_its_deadline_is_not_begun_again() -> None:
    late = work(("lost", False), deadline=-1)
    given_up = verdict(late, time.time(), SETTINGS)
    assert given_up is not None
    assert given_up.code == "deadline"


@pytest.mark.parametrize(("handed_back", "pause"), [(1, 0), (2, 2), (3, 4), (5, 16), (9, 30)])
def test_work_that_keeps_being_handed_back_waits_longer_each_time(
    handed_back: int, pause: int
) -> None:
    ends: list[tuple[Outcome, bool]] = [("lost", True), *[("handed_back", False)] * handed_back]
    expected = 1000.0 + pause if pause else 0.0
    assert due_at(work(*ends, ended_at=1000.0), now=2000.0) == expected


def test_a_death_is_followed_by_the_next_attempt_at_once() -> None:
    ends = (("handed_back", False), ("handed_back", False), ("lost", True))
    assert due_at(work(*ends), now=0.0) == 0.0


def test_an_end_in_the_future_by_another_clock_delays_the_next_attempt_no_longer() -> None:
    ends = (("handed_back", False), ("handed_back", False))
    assert due_at(work(*ends, ended_at=7 * 3600.0), now=100.0) <= 100.0 + 60.0


def candidate(tenant: str, number: int, pool: str = "cpu") -> DueWork:
    return DueWork(Place("edit", tenant, f"edit_{number:026}"), pool, 1, 0.0)


def test_tenants_take_turns_however_much_one_of_them_has_queued() -> None:
    turns = Turns()
    queue = [candidate("big", n) for n in range(10)] + [candidate("small", 99)]
    first, second = turns.choose(queue, {"cpu": 2}, [])
    assert {first.place.tenant, second.place.tenant} == {"big", "small"}


def test_a_tenant_with_work_under_way_lets_others_go_first() -> None:
    turns = Turns()
    busy = [Busy("a", "cpu")]
    (chosen,) = turns.choose([candidate("a", 1), candidate("b", 2)], {"cpu": 1}, busy)
    assert chosen.place.tenant == "b"


def test_tenants_with_equal_load_are_served_in_turn() -> None:
    turns = Turns()
    queue = [candidate(tenant, n) for n in range(6) for tenant in ("a", "b", "c")]
    order = []
    for _ in range(6):
        (chosen,) = turns.choose(queue, {"cpu": 1}, [])
        queue.remove(chosen)
        order.append(chosen.place.tenant)
    assert order == ["a", "b", "c", "a", "b", "c"]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["cpu", "gpu"])), max_size=30),
    st.integers(0, 5),
    st.integers(0, 5),
)
def test_no_pool_is_given_more_than_it_has_room_for_and_none_is_left_idle(
    wanted: list[tuple[str, str]], cpu: int, gpu: int
) -> None:
    queue = [candidate(tenant, n, pool) for n, (tenant, pool) in enumerate(wanted)]
    chosen = Turns().choose(queue, {"cpu": cpu, "gpu": gpu}, [])
    for pool, room in (("cpu", cpu), ("gpu", gpu)):
        there = sum(one.pool == pool for one in queue)
        assert sum(one.pool == pool for one in chosen) == min(room, there)
    for tenant in "abc":
        for pool in ("cpu", "gpu"):
            own = [one.place.id for one in chosen if (one.place.tenant, one.pool) == (tenant, pool)]
            queued = [
                one.place.id for one in queue if (one.place.tenant, one.pool) == (tenant, pool)
            ]
            assert own == queued[: len(own)], "a tenant's oldest work goes first"


def test_what_a_tenant_does_in_one_pool_does_not_hold_it_up_in_another() -> None:
    busy = [*[Busy("a", "gpu")] * 5, Busy("b", "cpu")]
    (chosen,) = Turns().choose([candidate("b", 1), candidate("a", 2)], {"cpu": 1}, busy)
    assert chosen.place.tenant == "a"


def test_no_tenant_gets_more_at_once_than_it_may_have_running_in_all_pools() -> None:
    turns = Turns({"a": 3, "b": 9}.__getitem__)
    queue = [candidate("a", n, pool) for n in range(5) for pool in ("cpu", "gpu")]
    queue += [candidate("b", 90, "gpu")]
    chosen = turns.choose(queue, {"cpu": 4, "gpu": 4}, [Busy("a", "cpu")])
    assert sorted(one.place.tenant for one in chosen) == ["a", "a", "b"]


@given(
    slots=st.integers(1, 4),
    backlog=st.integers(0, 40),
    warm_up=st.integers(0, 30),
    ending=st.lists(st.integers(0, 3), max_size=80),
    others=st.sets(st.sampled_from("bcd")),
)
def test_a_backlog_delays_the_first_edit_of_another_by_one_edit_a_slot_at_most(
    slots: int, backlog: int, warm_up: int, ending: list[int], others: set[str]
) -> None:
    """A pool of editors as a game: one slot after the other ends its edit and gets another."""
    turns = Turns()
    queue = [candidate("a", n) for n in range(backlog)]
    queue += [candidate(name, 1000 + n) for name in sorted(others) for n in range(3)]
    running: list[DueWork] = []

    def fill() -> list[DueWork]:
        busy = [Busy(one.place.tenant, one.pool) for one in running]
        begun = turns.choose(queue, {"cpu": slots - len(running)}, busy)
        for one in begun:
            queue.remove(one)
        running.extend(begun)
        return begun

    def end_one(which: int) -> list[DueWork]:
        if running:
            running.pop(which % len(running))
        return fill()

    ends = iter([*ending, *[0] * 200])
    fill()
    for _ in range(warm_up):
        end_one(next(ends))
    first = candidate("new", 5000)
    queue.append(first)
    # Who else waits without anything running may have its turn before.
    idle = others - {one.place.tenant for one in running}
    begun = fill()
    delays = 0
    while first not in begun:
        delays += 1
        assert delays <= slots + len(idle), "the first edit is held up"
        begun = end_one(next(ends))
