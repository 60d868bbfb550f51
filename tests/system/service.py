"""The whole service as a user starts it, `scalpel up`, for tests that talk to it over HTTP."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.local import local_client
from tests.support.services import own_environment


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
        return local_client(self.url, 120.0)

    def logs(self) -> str:
        return "\n".join(
            f"== {path.name}\n{path.read_text()[-4000:]}"
            for path in sorted((self.data / "logs").glob("*.log"))
        )

    def failures(self) -> list[str]:
        """What failed, and why: edits, exports and registrations."""
        with self.client() as client:
            work = [
                one
                for kind in ("edits", "exports", "base_models")
                for one in client.get(f"/v1/{kind}?limit=100").json()["data"]
                if one["status"] == "failed"
            ]
        return [f"{one['object']} {one['id']} failed: {one['error']}" for one in work]

    def clear(self) -> None:
        """Delete all aliases and edits, so that their names are free again."""
        with self.client() as client:
            for alias in client.get("/v1/aliases?limit=100").json()["data"]:
                client.delete(f"/v1/aliases/{alias['name']}")
            for edit in client.get("/v1/edits?limit=100").json()["data"]:
                client.delete(f"/v1/edits/{edit['id']}")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@dataclass(frozen=True)
class Commands:
    """What lines of shell did."""

    status: int
    output: str
    errors: str


def run_commands(service: Service, code: str, folder: Path, **environment: str) -> Commands:
    """Run lines of shell against the service, in `folder`.

    They may wait for work in a loop, so however long they take, they are ended as soon as an edit,
    an export or a registration has failed, or the service has.

    Raises:
        AssertionError: that happened; it says what and why.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", code],
            cwd=folder,
            env={**os.environ, "SCALPEL_URL": service.url, **environment},
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                assert service.process.poll() is None, f"the service has ended\n{service.logs()}"
                failures = service.failures()
                assert not failures, "\n".join([*failures, service.logs()])
                time.sleep(0.5)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        said = []
        for file in (output, errors):
            file.seek(0)
            said.append(file.read().decode(errors="replace"))
    return Commands(process.returncode, *said)


@contextlib.contextmanager
def running_service(data: Path, **settings: str) -> Iterator[Service]:
    """Start `scalpel up` on a free port and wait until it says that it is ready, or ends."""
    # Base models are converted once for all tests and for people alike.
    if "SCALPEL_CACHE" in os.environ:
        settings.setdefault("SCALPEL_CACHE", os.environ["SCALPEL_CACHE"])
    with (data.parent / "up.log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli.main", "up", "--port", "0", "--data", str(data)],
            env=own_environment(**settings),
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
    while service.process.poll() is None:
        ready = re.search(r"ready at (http://\S+)", service.said)
        if ready:
            return ready.group(1)
        time.sleep(0.05)
    raise AssertionError(f"the service does not start:\n{service.said}\n{service.logs()}")
