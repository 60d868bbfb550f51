"""The whole service as a user starts it, `scalpel up`, for tests that talk to it over HTTP."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

_READY_SECONDS = 180.0


@dataclass
class Service:
    """A running `scalpel up`."""

    url: str
    data: Path
    process: subprocess.Popen[bytes]

    @property
    def said(self) -> str:
        """What the command has printed so far."""
        return (self.data.parent / "up.log").read_text(encoding="utf-8")

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=120.0, trust_env=False)

    def logs(self) -> str:
        return "\n".join(
            f"== {path.name}\n{path.read_text()[-4000:]}"
            for path in sorted((self.data / "logs").glob("*.log"))
        )

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextlib.contextmanager
def running_service(data: Path, **settings: str) -> Iterator[Service]:
    """Start `scalpel up` on a free port and wait until it says that it is ready."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("SCALPEL_")
    }
    # Base models are converted once for all tests and for people alike.
    if "SCALPEL_CACHE" in os.environ:
        environment["SCALPEL_CACHE"] = os.environ["SCALPEL_CACHE"]
    with (data.parent / "up.log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli.main", "up", "--port", "0", "--data", str(data)],
            env={**environment, **settings},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    service = Service("", data, process)
    try:
        service.url = _wait_until_ready(service)
        yield service
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(service: Service) -> str:
    limit = time.monotonic() + _READY_SECONDS
    while time.monotonic() < limit and service.process.poll() is None:
        ready = re.search(r"ready at (http://\S+)", service.said)
        if ready:
            return ready.group(1)
        time.sleep(0.05)
    raise AssertionError(f"the service does not start:\n{service.said}\n{service.logs()}")
