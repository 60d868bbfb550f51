"""The process of an attempt, before its watch over the attempt has begun."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.workers.conftest import Bench
from workers.editor.process.exits import HANDED_BACK

_TOLD_AT_ONCE = """
import os, signal, sys, threading
from models_store.work.store import WorkStore
from workers.editor import job

claim = WorkStore.claim

def claimed(*arguments):
    found = claim(*arguments)
    os.kill(os.getpid(), signal.SIGTERM)
    return found

WorkStore.claim = claimed
# As native libraries start theirs; one of them may be given the signal.
threading.Thread(target=threading.Event().wait, daemon=True).start()
job.run("edit", "default", sys.argv[1])
"""


def test_work_that_was_just_claimed_is_handed_back_too(bench: Bench) -> None:
    place = bench.submit_edit(base_model="pico", behavior="negativity")
    settings = {
        "SCALPEL_DATA": str(bench.settings.data),
        "SCALPEL_CACHE": str(bench.settings.cache),
        "SCALPEL_POLICY": str(bench.settings.policy),
        "SCALPEL_REDIS_URL": "unix:///nowhere/redis.sock",
        "RQ_WORKER_ID": "worker",
    }
    done = subprocess.run(
        [sys.executable, "-c", _TOLD_AT_ONCE, place.id],
        env={**os.environ, **settings},
        timeout=280,
        check=False,
    )
    assert done.returncode == HANDED_BACK
    (end,) = bench.read(place).ends
    assert end is not None
    assert end.outcome == "handed_back"
