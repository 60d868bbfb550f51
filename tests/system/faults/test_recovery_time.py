"""How long an edit waits after its processes were killed, with the settings as they come."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.services import RedisServer, api_settings
from tests.system.faults.edits import edit_body
from tests.system.faults.harness import running_cluster

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.long]


def test_an_edit_goes_on_within_thirty_seconds_of_the_death_of_everything(
    redis_of_module: RedisServer, pico_folder: Path, tmp_path: Path
) -> None:
    settings = api_settings(tmp_path, redis_of_module)
    with running_cluster(settings, redis_of_module, tmp_path) as cluster:
        cluster.wait_for_editors()
        cluster.register("pico", pico_folder)
        id = cluster.submit(**edit_body(long=True))
        claim = cluster.claimed("edit", id)
        os.kill(claim.pid, signal.SIGKILL)
        os.kill(cluster.editor_of(claim).pid, signal.SIGKILL)
        killed_at = time.monotonic()
        cluster.claimed("edit", id, attempt=2)
        assert time.monotonic() - killed_at < 30
        assert cluster.finished("edit", id).status == "succeeded"
