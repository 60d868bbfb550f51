"""The process that an editor has while it waits for work."""

from __future__ import annotations

import multiprocessing
import shutil
from pathlib import Path

from tests.system.faults.harness import wait_for
from tests.workers.conftest import Bench
from workers.editor.process.idle import IdleProcess


def pids() -> list[int | None]:
    return [process.pid for process in multiprocessing.active_children()]


def run_to_its_end(idle: IdleProcess) -> None:
    idle.start()
    wait_for(lambda: not pids(), "the end of the process")


def test_what_it_is_done_with_is_not_looked_at_again(
    empty_bench: Bench, pico_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(pico_folder, tmp_path / "model"))
    empty_bench.register(folder)
    (folder / "config.json").rename(tmp_path / "config.json")
    idle = IdleProcess(empty_bench.settings)
    run_to_its_end(idle)  # it cannot be loaded
    (tmp_path / "config.json").rename(folder / "config.json")
    run_to_its_end(idle)
    idle.tidy()
    objects = empty_bench.store.objects
    assert objects.files("cache") == []
    other = IdleProcess(empty_bench.settings)
    other.start()
    wait_for(lambda: bool(objects.files("cache")), "something prepared", 150)
    other.stop()
    assert pids() == []


def test_it_can_be_ended_at_any_moment_and_there_is_one_at_most(bench: Bench) -> None:
    idle = IdleProcess(bench.settings)
    idle.stop()
    idle.start()
    (first,) = pids()
    idle.tidy()
    assert pids() == [first]
    idle.start()
    (second,) = pids()
    assert second != first
    idle.stop()
    assert pids() == []


def test_there_is_none_where_it_is_not_wanted(bench: Bench) -> None:
    idle = IdleProcess(bench.settings.model_copy(update={"prepare": False}))
    idle.start()
    assert pids() == []
