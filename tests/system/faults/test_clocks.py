"""Editors whose clocks are hours wrong, as processes: what they work on ends well."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.services import RedisServer, api_settings
from tests.system.faults.edits import edit_body
from tests.system.faults.harness import Cluster, EditorProcess, running_cluster, wait_for

pytestmark = [pytest.mark.system, pytest.mark.slow]

_WRONG_CLOCK = Path(__file__).parent / "wrong_clock"


class WrongEditor(EditorProcess):
    """An editor under a clock that is wrong."""

    def _start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workers.editor"], env=self.env, stdout=log, stderr=log
            )
        self.restarts += 1


@pytest.fixture
def wrong(redis_server: RedisServer, tmp_path: Path) -> Iterator[Cluster]:
    """One editor is seven hours ahead, one seven hours behind; the keeper's clock is right."""
    settings = api_settings(tmp_path, redis_server, edit_deadline_seconds=3600)
    with running_cluster(settings, redis_server, tmp_path, editors=0) as cluster:
        for hours in (7, -7):
            env = {
                **cluster.env,
                "PYTHONPATH": str(_WRONG_CLOCK),
                "WRONG_BY_SECONDS": str(hours * 3600),
            }
            cluster.editors.append(WrongEditor(env, tmp_path / f"editor{hours:+}.log"))
        yield cluster


@pytest.mark.long
def test_editors_with_wrong_clocks_end_no_edit_for_it(
    wrong: Cluster, pico_folder: Path, tmp_path: Path
) -> None:
    wrong.wait_for_editors(120)
    assert wrong.register("pico", pico_folder).status == "succeeded"
    ids = [wrong.submit(**edit_body()) for _ in range(6)]
    done = [wrong.finished("edit", id) for id in ids]
    assert [work.status for work in done] == ["succeeded"] * 6
    assert {len(work.claims) for work in done} == {1}
    assert len({work.claims[0].worker for work in done}) == 2, "both editors took some"
    for hours in (7, -7):
        log = tmp_path / f"editor{hours:+}.log"
        wait_for(lambda log=log: "this clock and that of Redis differ" in log.read_text(), "a word")
