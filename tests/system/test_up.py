"""`scalpel up` leaves no process and no lock behind, whichever way it ends."""

from __future__ import annotations

import contextlib
import fcntl
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from app.cli import supervisor
from tests.support.local import local_client
from tests.support.pico import save_pico
from tests.support.services import own_environment
from tests.system.faults.edits import edit_body
from tests.system.faults.harness import wait_for

pytestmark = [pytest.mark.system, pytest.mark.slow]

_MARK = "SCALPEL_TEST_MARK"
_DRAIN_SECONDS = 3
_PARTS = 5  # the command itself, Redis, API, editor, generator


@dataclass
class Up:
    """A running `scalpel up`; its descendants carry a mark in their environment."""

    folder: Path
    process: subprocess.Popen[bytes] = field(init=False)
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        toml = self.folder / "base_models.toml"
        toml.write_text(
            '[[base_model]]\nid = "pico"\nsource = { type = "folder", path = "pico" }\n'
        )
        settings = {
            _MARK: self.mark,
            "OMP_NUM_THREADS": "1",
            "SCALPEL_CACHE": str(self.folder / "cache"),
            "SCALPEL_DRAIN_SECONDS": str(_DRAIN_SECONDS),
            "SCALPEL_DEFAULT_BASE_MODEL": "false",
            "SCALPEL_BASE_MODELS": str(toml),
        }
        with (self.folder / "up.log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "app.cli.main",
                    "up",
                    "--port",
                    "0",
                    "--data",
                    str(self.data),
                ],
                env=own_environment(**settings),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def output(self) -> str:
        return (self.folder / "up.log").read_text()

    def alive(self) -> list[psutil.Process]:
        descendants = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                marked = process.environ().get(_MARK) == self.mark
                # Redis overwrites its environment with its title, but runs in this folder.
                if marked or Path(process.cwd()) == self.data / "redis":
                    descendants.append(process)
        return descendants

    def part(self, word: str) -> psutil.Process:
        (part,) = [
            process
            for process in self.alive()
            if word in " ".join(process.cmdline()) and process.ppid() == self.process.pid
        ]
        return part

    def is_locked(self) -> bool:
        with (self.data / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    save_pico(tmp_path / "pico")
    up = Up(tmp_path)
    try:
        wait_for(lambda: len(up.alive()) >= _PARTS, "all processes", 60)
        yield up
    finally:
        for process in up.alive():
            process.kill()
        up.process.wait()


@pytest.fixture
def busy(up: Up) -> Up:
    """With an edit that runs, in a separate process."""
    wait_for(lambda: "ready at" in up.output, "it to be ready", 120)
    url = up.output.partition("ready at ")[2].split()[0]
    with local_client(url) as http:
        id = http.post("/v1/edits", json=edit_body(long=True)).json()["id"]
        wait_for(lambda: http.get(f"/v1/edits/{id}").json()["stage"], "it to run", 60)
    assert len(up.alive()) > _PARTS
    return up


def leaves_nothing(up: Up, seconds: float = _DRAIN_SECONDS + 10) -> None:
    wait_for(lambda: not up.alive(), f"the end of {up.alive()}", seconds)
    assert not up.is_locked()


def test_when_it_gets_sigterm_while_it_works(busy: Up) -> None:
    busy.process.send_signal(signal.SIGTERM)
    assert busy.process.wait(_DRAIN_SECONDS + 10) == 0
    leaves_nothing(busy, 3)


def test_when_it_is_killed_while_it_works(busy: Up) -> None:
    busy.process.kill()
    leaves_nothing(busy)


@pytest.mark.long
def test_when_a_part_hangs_and_another_is_killed_during_its_end(busy: Up) -> None:
    editor, api = busy.part("workers.editor"), busy.part("app.cli.main api")
    editor.suspend()
    api.suspend()
    busy.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert busy.process.poll() is None, "it waits for them"
    api.kill()
    assert busy.process.wait(2 * _DRAIN_SECONDS + 10) == 0
    leaves_nothing(busy, 3)


@pytest.mark.parametrize("times", [1, 3])
def test_when_ctrl_c_comes_before_it_is_ready(up: Up, times: int) -> None:
    for _ in range(times):
        up.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    # The last signal may come when the interpreter has already removed its handlers.
    assert up.process.wait(_DRAIN_SECONDS + 10) in (0, -signal.SIGINT)
    leaves_nothing(up, 3)


def test_a_log_that_has_grown_large_is_put_aside_and_written_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LOG_BYTES", 1000)
    small, large = tmp_path / "api.log", tmp_path / "editor.log"
    small.write_bytes(b"a" * 1000)
    with large.open("ab") as writer:
        writer.write(b"b" * 1001)
        writer.flush()
        supervisor.rotate_logs(tmp_path)
        writer.write(b"c")
    assert small.read_bytes() == b"a" * 1000
    assert large.read_bytes() == b"c"
    assert (tmp_path / "editor.log.1").read_bytes() == b"b" * 1001
    assert not (tmp_path / "api.log.1").exists()
