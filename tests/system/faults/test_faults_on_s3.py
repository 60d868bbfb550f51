"""The same faults over an S3 store, where a client that is used before a fork hangs after it."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator

import httpx
import pytest

from models_store.schemas.records import STAGES
from tests.support.s3 import CREDENTIALS
from tests.system.faults.edits import edit_body
from tests.system.faults.harness import Cluster, is_alive, wait_for
from tests.system.faults.observer import Observer
from tests.system.faults.test_faults import frozen_in, outcomes
from tests.system.faults.trap import Trap

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.long]

VICTIMS = ("child", "editor", "both")


@pytest.fixture(scope="module")
def store_settings(s3_endpoint: str) -> Iterator[dict[str, str]]:
    """A bucket of one's own; its credentials are in the environment of all processes."""
    bucket = f"faults-{uuid.uuid4().hex[:8]}"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        httpx.put(f"{s3_endpoint}/{bucket}", trust_env=False).raise_for_status()
        yield {"store_url": f"s3://{bucket}/scalpel", "s3_endpoint": s3_endpoint}


def test_every_edit_ends_once_on_s3_whatever_is_killed_flushed_or_canceled(
    cluster: Cluster, trap: Trap
) -> None:
    for number, stage in enumerate(STAGES):
        id, claim = frozen_in(cluster, trap, stage)
        editor = cluster.editor_of(claim).pid
        victim = VICTIMS[number % len(VICTIMS)]
        with Observer(cluster.store.work, id) as observer:
            if victim != "editor":
                os.kill(claim.pid, signal.SIGKILL)
            if victim != "child":
                os.kill(editor, signal.SIGKILL)
            work = cluster.finished("edit", id)
        observer.check()
        assert outcomes(work) == ["lost", "succeeded"], (stage, victim)

    running, claim = frozen_in(cluster, trap, "evaluate")
    queued = [cluster.submit(**edit_body()) for _ in range(2)]
    cluster.client.flushall()
    os.kill(claim.pid, signal.SIGCONT)
    assert outcomes(cluster.finished("edit", running)) == ["succeeded"]
    for id in queued:
        assert cluster.finished("edit", id).status == "succeeded"

    canceled, claim = frozen_in(cluster, trap, "tune")
    with Observer(cluster.store.work, canceled) as observer:
        cluster.store.work.cancel("edit", "default", canceled)
        cluster.wake()
        wait_for(lambda: not is_alive(claim.pid), "the end of the process", 2.0)
    observer.check("canceled")
