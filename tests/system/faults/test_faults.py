"""Real processes are killed, frozen and cut off; every edit still ends, once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import httpx
import pytest

from models_store.live import keys as redis_keys
from models_store.schemas.records import STAGES, Claim
from models_store.work.store import Work
from tests.support.services import RedisServer, running_api
from tests.system.faults.edits import edit_body
from tests.system.faults.harness import Cluster, EditorProcess, is_alive, wait_for
from tests.system.faults.observer import Observer
from tests.system.faults.trap import Trap

pytestmark = [pytest.mark.system, pytest.mark.slow]


@pytest.fixture(scope="module")
def http(cluster: Cluster) -> Iterator[httpx.Client]:
    """The API over the same store and Redis; the cluster has the keeper."""
    with running_api(cluster.settings) as api:
        api.http.timeout = httpx.Timeout(90.0)
        yield api.http


def frozen_in(cluster: Cluster, trap: Trap, stage: str) -> tuple[str, Claim]:
    """A new edit whose process is stopped in that stage."""
    trap.set(stage)
    id = cluster.submit(**edit_body())
    pid = trap.caught()
    claim = cluster.claimed("edit", id)
    assert claim.pid == pid
    return id, claim


def outcomes(work: Work) -> list[str]:
    return [end.outcome if end is not None else "open" for end in work.ends]


@pytest.mark.parametrize(
    ("stage", "victim"),
    [
        # Each stage with each victim in time; each stage with one of them always.
        pytest.param(stage, victim, marks=[] if (n + m) % 3 == 0 else [pytest.mark.long])
        for n, stage in enumerate(STAGES)
        for m, victim in enumerate(("child", "editor", "both"))
    ],
)
def test_an_edit_survives_the_death_of_its_processes(
    cluster: Cluster, trap: Trap, stage: str, victim: str
) -> None:
    id, claim = frozen_in(cluster, trap, stage)
    editor = cluster.editor_of(claim).pid
    with Observer(cluster.store.work, id) as observer:
        if victim != "editor":
            os.kill(claim.pid, signal.SIGKILL)
        if victim != "child":
            os.kill(editor, signal.SIGKILL)
        work = cluster.finished("edit", id)
    assert not is_alive(claim.pid), "a child does not outlive its editor"
    observer.check()
    assert outcomes(work) == ["lost", "succeeded"]
    first = work.ends[0]
    assert first is not None
    assert first.child_died == (victim == "child"), "the death of an editor is no fault of the edit"


@pytest.mark.parametrize(
    "stage",
    # The stages whose process is busiest, and the one that publishes, always.
    [
        pytest.param(
            stage, marks=[] if stage in ("extract", "evaluate", "publish") else [pytest.mark.long]
        )
        for stage in STAGES
    ],
)
def test_a_cancel_takes_effect_within_two_seconds(cluster: Cluster, trap: Trap, stage: str) -> None:
    id, claim = frozen_in(cluster, trap, stage)
    with Observer(cluster.store.work, id) as observer:
        cluster.store.work.cancel("edit", "default", id)
        cluster.wake()  # as the API does
        wait_for(lambda: not is_alive(claim.pid), "the end of the process", 2.0)
    observer.check("canceled")


def test_a_process_notices_a_cancel_by_itself_when_redis_is_away(
    cluster: Cluster, redis_of_module: RedisServer
) -> None:
    id = cluster.submit(**edit_body(long=True))
    claim = cluster.claimed("edit", id)
    redis_of_module.stop()
    try:
        assert is_alive(claim.pid)
        cluster.store.work.cancel("edit", "default", id)
        wait_for(lambda: not is_alive(claim.pid), "the end of the process", 4.0)
    finally:
        redis_of_module.start()
    cluster.wait_for_editors()


def test_a_flush_loses_nothing_that_is_queued_or_running(cluster: Cluster, trap: Trap) -> None:
    running, claim = frozen_in(cluster, trap, "extract")
    queued = [cluster.submit(tenant, **edit_body()) for tenant in ("default", "a", "a", "b")]
    cluster.client.flushall()
    os.kill(claim.pid, signal.SIGCONT)
    assert outcomes(cluster.finished("edit", running)) == ["succeeded"], "it goes on as it was"
    for id, tenant in zip(queued, ("default", "a", "a", "b"), strict=True):
        assert cluster.finished("edit", id, tenant).status == "succeeded"


def test_an_edit_goes_on_while_redis_is_away(
    cluster: Cluster, redis_of_module: RedisServer
) -> None:
    id = cluster.submit(**edit_body(long=True))
    cluster.claimed("edit", id)
    redis_of_module.stop()
    try:
        work = cluster.finished("edit", id)
    finally:
        redis_of_module.start()
    assert outcomes(work) == ["succeeded"]
    cluster.wait_for_editors()
    assert cluster.finished("edit", cluster.submit(**edit_body())).status == "succeeded"


def test_an_edit_waits_for_a_store_that_is_away(cluster: Cluster) -> None:
    id = cluster.submit(**edit_body(long=True))
    key = redis_keys.progress(id)
    wait_for(lambda: cluster.client.hget(key, "stage") == b"extract", "a stage in the middle")
    store = cluster.settings.data / "store"
    store.rename(store.with_name("away"))
    try:
        wait_for(lambda: cluster.client.hget(key, "stage") == b"publish", "the last stage")
        time.sleep(1.0)
    finally:
        store.with_name("away").rename(store)
    assert outcomes(cluster.finished("edit", id)) == ["succeeded"]


def test_an_editor_that_stops_returns_its_work_to_the_queue(cluster: Cluster) -> None:
    id = cluster.submit(**edit_body(long=True))
    claim = cluster.claimed("edit", id)
    editor = cluster.editor_of(claim).process
    with Observer(cluster.store.work, id) as observer:
        os.kill(editor.pid, signal.SIGTERM)
        assert editor.wait(cluster.settings.drain_seconds) == 0
        assert not is_alive(claim.pid)
        assert claim.worker not in {seen.name for seen in cluster.living_editors()}
        work = cluster.finished("edit", id)
    observer.check()
    assert outcomes(work) == ["handed_back", "succeeded"]


def test_a_child_that_cannot_return_its_work_is_killed_and_does_not_count_as_dead(
    cluster: Cluster, trap: Trap
) -> None:
    id, claim = frozen_in(cluster, trap, "extract")
    editor = cluster.editor_of(claim).process
    os.kill(editor.pid, signal.SIGTERM)
    assert editor.wait(2 * cluster.settings.drain_seconds) == 0
    work = cluster.finished("edit", id)
    first = work.ends[0]
    assert first is not None
    assert (first.outcome, first.child_died) == ("lost", False)
    assert work.status == "succeeded"


def test_an_attempt_that_hangs_is_ended_and_its_process_killed(
    cluster: Cluster, trap: Trap
) -> None:
    id, claim = frozen_in(cluster, trap, "probe")
    work = cluster.finished("edit", id)
    assert outcomes(work) == ["lost", "succeeded"]
    wait_for(lambda: not is_alive(claim.pid), "the end of the process", 5.0)


def test_an_ended_attempt_that_wakes_publishes_nothing_and_logs_it(
    cluster: Cluster, trap: Trap
) -> None:
    id, claim = frozen_in(cluster, trap, "publish")
    editor = cluster.editor_of(claim)
    os.kill(editor.pid, signal.SIGSTOP)  # so that it does not kill the child
    try:
        with Observer(cluster.store.work, id) as observer:
            work = cluster.finished("edit", id)
            assert outcomes(work) == ["lost", "succeeded"]
            os.kill(claim.pid, signal.SIGCONT)
            # Not reaped while its editor is stopped, but ended.
            wait_for(lambda: not is_alive(claim.pid), "the end of the process", 10.0)
    finally:
        os.kill(editor.pid, signal.SIGCONT)
    observer.check()
    result = cluster.read("edit", id).result
    assert result is not None
    assert result.attempt == 2
    assert logs_that_it_was_ended(editor, id)


def logs_that_it_was_ended(editor: EditorProcess, id: str) -> bool:
    return any(
        "the keeper has ended this attempt: nothing of it is published" in line and id in line
        for line in editor.log.read_text().splitlines()
    )


def test_an_editor_that_hangs_with_its_child_publishes_nothing_when_both_wake(
    cluster: Cluster, trap: Trap, http: httpx.Client
) -> None:
    id, claim = frozen_in(cluster, trap, "publish")
    editor = cluster.editor_of(claim)
    os.kill(editor.pid, signal.SIGSTOP)
    with Observer(cluster.store.work, id) as observer:
        try:
            edit = http.get(f"/v1/edits/{id}", params={"wait": 60}).json()
            etag = http.get(f"/v1/edits/{id}/delta").headers["ETag"]
        finally:
            os.kill(claim.pid, signal.SIGCONT)
            os.kill(editor.pid, signal.SIGCONT)
        wait_for(lambda: not is_alive(claim.pid), "the end of the process", 10.0)
    observer.check()
    assert (edit["status"], edit["attempt"]) == ("succeeded", 2)
    assert http.get(f"/v1/edits/{id}").json() == edit
    assert http.get(f"/v1/edits/{id}/delta").headers["ETag"] == etag
    assert is_alive(editor.pid), "the editor itself goes on"


def test_a_text_that_crashes_its_process_every_time_is_given_up_and_holds_nobody_up(
    cluster: Cluster, http: httpx.Client
) -> None:
    deadly = http.post("/v1/edits", json=edit_body(long=True)).json()["id"]
    behind = [http.post("/v1/edits", json=edit_body()).json()["id"] for _ in range(2)]
    for number in range(1, cluster.settings.max_deaths + 1):
        os.kill(cluster.claimed("edit", deadly, attempt=number).pid, signal.SIGKILL)
    edit = http.get(f"/v1/edits/{deadly}", params={"wait": 60}).json()
    assert (edit["status"], edit["error"]["code"]) == ("failed", "worker_lost")
    assert "died 3 times" in edit["error"]["message"]
    attempts = edit["error"]["attempts"]
    assert [(it["n"], it["outcome"]) for it in attempts] == [(1, "lost"), (2, "lost"), (3, "lost")]
    assert all(attempt["at"] >= edit["started_at"] for attempt in attempts)
    for id in behind:
        assert http.get(f"/v1/edits/{id}", params={"wait": 60}).json()["status"] == "succeeded"


def test_an_edit_is_ended_at_its_deadline(cluster: Cluster) -> None:
    id = cluster.submit(seconds=2, **edit_body(long=True))
    claim = cluster.claimed("edit", id)
    work = cluster.finished("edit", id)
    assert work.result is not None
    assert work.result.error is not None
    assert work.result.error.code == "deadline"
    assert 0 <= work.result.finished_at - work.request.deadline < 2
    wait_for(lambda: not is_alive(claim.pid), "the end of the process", 2.0)
