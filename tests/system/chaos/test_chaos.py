"""A short campaign of faults for each kind of store; `make chaos` runs long ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.chaos.campaign import Plan, run
from tests.system.chaos.faults import COMMON, KINDS, StoreKind, schedule

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(600)]

SEED = 5


@pytest.mark.parametrize(
    ("store", "edits"), [("file", 9), pytest.param("s3", 7, marks=pytest.mark.long)]
)
def test_nothing_is_lost_whatever_is_killed_stopped_flushed_or_refused(
    store: StoreKind,
    edits: int,
    tmp_path: Path,
    s3_endpoint: str,
) -> None:
    plan = Plan(store, SEED, seconds=20, edits=edits, gap=1.0)
    outcome = run(plan, tmp_path, s3_endpoint)
    print(outcome.table())
    assert outcome.holds, f"{outcome.table()}\n{outcome.logs}"
    assert outcome.acknowledged == plan.edits
    assert outcome.faults.total() >= len(COMMON)


@pytest.mark.parametrize("store", ["file", "s3"])
def test_a_seed_repeats_a_schedule_and_a_round_has_every_fault(store: StoreKind) -> None:
    faults = schedule(3, store, 20, 1.0)
    assert faults == schedule(3, store, 20, 1.0)
    assert faults != schedule(4, store, 20, 1.0)
    assert {fault.kind for fault in faults[: len(KINDS[store])]} == set(KINDS[store])
