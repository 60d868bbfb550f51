"""Workers' processes that start in a moment: forked from one that has imported what they import.

`python -m workers.editor` takes eight seconds of a core, nearly all of it for imports, and tests
that kill editors start dozens of them.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from models_store.process.lifetimes import die_with_parent

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["tests.support.preloaded"])


class Forked:
    """`python -m MODULE`; what `subprocess.Popen` is for processes that are executed.

    It leads a session of its own, and dies with this process.
    """

    def __init__(self, module: str, env: Mapping[str, str], log: Path) -> None:
        self._process = _server.Process(target=_run, args=(module, dict(env), str(log)))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        """See `poll`."""
        return self.poll()

    def poll(self) -> int | None:
        """The exit code once it has ended, of one that was killed the signal below 0."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(module: str, env: dict[str, str], log: str) -> None:
    die_with_parent(os.getppid(), signal.SIGKILL)
    os.setsid()
    os.environ.clear()
    os.environ.update(env)
    sys.stdin.close()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for standard in (1, 2):
        os.dup2(output, standard)
    os.close(output)
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
