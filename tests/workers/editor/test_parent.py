"""The editor's parent process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from models_store.live.heartbeats import Editor, editors_seen
from models_store.live.leases import connect
from models_store.settings import Settings
from tests.support.services import RedisServer

_COUNT = """
import sys
import workers.editor.__main__
from workers.editor.process.preload import preload
preload()
import torch, threading
print(torch.cuda.is_initialized(), threading.active_count())
"""


def start(**env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "workers.editor"],
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_editors(process: subprocess.Popen[str], client: redis.Redis) -> list[Editor]:
    """The editors that tell of themselves, once there are some; until then the process lives."""
    while not (seen := editors_seen(client, "")):
        assert process.poll() is None, "the editor has ended"
        time.sleep(0.05)
    return seen


def test_what_is_imported_before_the_fork_starts_neither_a_device_nor_a_thread() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", _COUNT], capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == ["False", "1"]


def test_without_a_redis_to_look_for_an_editor_says_what_to_set(tmp_path: Path) -> None:
    process = start(SCALPEL_DATA=str(tmp_path), SCALPEL_REDIS_URL="")
    output, _ = process.communicate()
    assert process.returncode == 1
    assert "SCALPEL_REDIS_URL" in output


@pytest.mark.slow
def test_an_editor_waits_for_redis_tells_of_itself_and_ends_at_once_when_told_to(
    tmp_path: Path,
    redis_server: RedisServer,
) -> None:
    link = redis_server.folder / "later.sock"
    process = start(
        SCALPEL_DATA=str(tmp_path), SCALPEL_REDIS_URL=f"unix://{link}", SCALPEL_POOL="gpu-80g"
    )
    client = connect(Settings(redis_url=redis_server.url))
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "waiting for Redis" in line:
                break
        link.symlink_to(redis_server.folder / "redis.sock")
        seen = wait_for_editors(process, client)
        assert (seen[0].pid, seen[0].pool, seen[0].state) == (process.pid, "gpu-80g", "idle")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert editors_seen(client, "") == []
    finally:
        process.kill()
        process.communicate()
        client.close()
        link.unlink(missing_ok=True)
