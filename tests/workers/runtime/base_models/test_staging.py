"""A folder is made once, whole or not at all, whoever asks and whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from models_store.errors import BaseModelUnavailable
from workers.runtime.base_models.staging import make_once

ORIGIN = {"package": "a-test"}


def _write(text: str) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        (folder / "weights").write_text(text)

    return build


def _fail(folder: Path) -> None:
    raise AssertionError("a whole folder is not made again")


def _spawn(code: str, target: Path) -> subprocess.Popen[str]:
    """Run `code` with `target` and `make_once` at hand."""
    preamble = (
        "import sys, time; from pathlib import Path\n"
        "from workers.runtime.base_models.staging import make_once\n"
        "target = Path(sys.argv[1])\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", preamble + code, str(target)], stdout=subprocess.PIPE, text=True
    )


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    target = tmp_path / "shelf" / "model"
    assert make_once(target, _write("whole"), origin=ORIGIN) == target
    assert make_once(target, _fail, origin=ORIGIN) == target
    assert (target / "weights").read_text() == "whole"
    assert '"a-test"' in (target / "scalpel.json").read_text()


@pytest.mark.parametrize("damage", ["lost", "cut", "note lost", "note spoilt"])
def test_a_damaged_folder_is_made_again(tmp_path: Path, damage: str) -> None:
    target = make_once(tmp_path / "model", _write("whole"), origin=ORIGIN)
    if damage == "lost":
        (target / "weights").unlink()
    elif damage == "cut":
        os.truncate(target / "weights", 2)
    elif damage == "note lost":
        (target / "scalpel.json").unlink()
    else:
        (target / "scalpel.json").write_text("{")
    make_once(target, _write("anew"), origin=ORIGIN)
    assert (target / "weights").read_text() == "anew"


def test_a_failed_attempt_leaves_nothing(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "weights").write_text("half")
        raise BaseModelUnavailable("no such file")

    with pytest.raises(BaseModelUnavailable, match="no such file"):
        make_once(tmp_path / "model", build, origin=ORIGIN)
    assert [path.name for path in tmp_path.iterdir()] == [".model.lock"]


def test_a_broken_off_download_is_gone_on_with(tmp_path: Path) -> None:
    def cut(folder: Path) -> None:
        (folder / "weights").write_text("first half, ")
        raise BaseModelUnavailable("the line went dead")

    def go_on(folder: Path) -> None:
        with (folder / "weights").open("a") as stream:
            stream.write("second half")

    with pytest.raises(BaseModelUnavailable):
        make_once(tmp_path / "model", cut, origin=ORIGIN, resume=True)
    assert not (tmp_path / "model").exists()
    make_once(tmp_path / "model", go_on, origin=ORIGIN, resume=True)
    assert (tmp_path / "model" / "weights").read_text() == "first half, second half"


def test_others_may_read_what_one_made(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "weights").touch(mode=0o600)

    target = make_once(tmp_path / "model", build, origin=ORIGIN)
    assert {path.stat().st_mode & 0o777 for path in target.iterdir()} == {0o644}


def test_of_many_threads_one_makes_it(tmp_path: Path) -> None:
    made: list[str] = []
    start = threading.Barrier(8)

    def build(folder: Path) -> None:
        made.append(folder.name)
        (folder / "weights").write_text("whole")

    def call() -> None:
        start.wait()
        make_once(tmp_path / "model", build, origin=ORIGIN)

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_of_many_processes_one_makes_it_and_none_sees_half(tmp_path: Path) -> None:
    code = (
        "def build(folder):\n"
        "    with (target.parent / 'log').open('a') as log: log.write('built\\n')\n"
        "    (folder / 'weights').write_text('half')\n"
        "    time.sleep(0.3)\n"
        "    (folder / 'weights').write_text('whole')\n"
        "print((make_once(target, build, origin={}) / 'weights').read_text())\n"
    )
    callers = [_spawn(code, tmp_path / "model") for _ in range(4)]
    assert [caller.communicate(timeout=280)[0] for caller in callers] == ["whole\n"] * 4
    assert (tmp_path / "log").read_text() == "built\n"


def test_a_kill_in_the_middle_leaves_no_half_made_folder(tmp_path: Path) -> None:
    target = tmp_path / "model"
    code = (
        "def build(folder):\n"
        "    (folder / 'weights').write_text('half')\n"
        "    (folder / 'leftover').write_text('of the dead')\n"
        "    print('building', flush=True); time.sleep(600)\n"
        "make_once(target, build, origin={})\n"
    )
    victim = _spawn(code, target)
    assert victim.stdout is not None
    assert victim.stdout.readline() == "building\n"
    victim.send_signal(signal.SIGKILL)
    victim.communicate(timeout=280)
    assert not target.exists()
    make_once(target, _write("whole"), origin=ORIGIN)
    assert sorted(path.name for path in target.iterdir()) == ["scalpel.json", "weights"]
    assert (target / "weights").read_text() == "whole"


def test_no_room_is_told_with_what_to_do(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: both are an OSError while writing."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from models_store.errors import BaseModelUnavailable\n"
        "try: make_once(target, lambda f: f.joinpath('w').write_bytes(bytes(9000)), origin={})\n"
        "except BaseModelUnavailable as error: print(error.message)\n"
    )
    told, _ = _spawn(code, tmp_path / "model").communicate(timeout=280)
    assert "cannot be written" in told
    assert "set SCALPEL_CACHE to another folder" in told
    assert [path.name for path in tmp_path.iterdir()] == [".model.lock"]


def test_a_full_disk_is_called_that(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        with Path("/dev/full").open("w") as stream:
            stream.write("x")

    with pytest.raises(BaseModelUnavailable, match=r"No space left on device; free some space"):
        make_once(tmp_path / "model", build, origin=ORIGIN)


def test_a_cache_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")
    with pytest.raises(BaseModelUnavailable, match="set SCALPEL_CACHE"):
        make_once(tmp_path / "cache" / "model", _write("whole"), origin=ORIGIN)
