"""Real processes for tests: editors that are restarted when they end, a keeper, a store."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import redis

from app.domain.edits.idempotency import Sender
from app.domain.edits.requests import EditBody, ExportBody
from app.loops.keeper import Keeper
from app.services import Store
from models_store.live import leases as live
from models_store.live.heartbeats import Editor, editors_seen
from models_store.live.leases import connect
from models_store.objects.store import open_store
from models_store.schemas.catalogue import BaseModelSpec, FolderSource
from models_store.schemas.records import Actor, Claim, Kind
from models_store.settings import Settings
from models_store.work.base_models import registration
from models_store.work.store import SHARED_TENANT, Work
from tests.support.forked import Forked
from tests.support.services import RedisServer, own_environment

T = TypeVar("T")


def wait_for(question: Callable[[], T | None], what: str, seconds: float = 60.0) -> T:
    """Poll `question` until it returns neither None nor False."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        value = question()
        if value is not None and value is not False:
            return value
        time.sleep(0.01)
    raise AssertionError(f"not within {seconds:.0f} seconds: {what}")


@dataclass
class EditorProcess:
    """`python -m workers.editor`; restarted whenever it ends, until it is stopped."""

    env: dict[str, str]
    log: Path
    restarts: int = -1
    process: Forked | subprocess.Popen[bytes] = field(init=False)
    _stopped: bool = False

    def __post_init__(self) -> None:
        self._start()
        self._thread = threading.Thread(target=self._tend, daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self) -> None:
        self._stopped = True
        self._thread.join()
        self.process.kill()
        self.process.wait()

    def _start(self) -> None:
        self.process = Forked("workers.editor", self.env, self.log)
        self.restarts += 1

    def _tend(self) -> None:
        while not self._stopped:
            if self.process.poll() is not None:
                self._start()
            time.sleep(0.05)


class KeeperThread:
    """The keeper's loop in a thread of the test."""

    def __init__(self, settings: Settings) -> None:
        self.keeper = Keeper(open_store(settings), connect(settings), settings)
        self._thread = threading.Thread(target=lambda: asyncio.run(self.keeper.run()), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.keeper.stop()
        self._thread.join(10)
        assert not self._thread.is_alive(), "the keeper does not stop"


class Cluster:
    """Everything but the HTTP front end, over one store and one Redis."""

    def __init__(
        self,
        settings: Settings,
        server: RedisServer,
        logs: Path,
        editors: int = 1,
        editor_env: dict[str, str] | None = None,
    ) -> None:
        self.settings = settings
        self.server = server
        self.store = Store.over(open_store(settings), settings)
        self.client = connect(settings)
        self._logs = logs
        self.env = own_environment(**as_variables(settings), OMP_NUM_THREADS="1")
        self.env |= editor_env or {}
        self.keeper = KeeperThread(settings)
        self.editors = [EditorProcess(self.env, logs / f"editor-{n}.log") for n in range(editors)]

    def stop(self) -> None:
        for editor in self.editors:
            editor.stop()
        self.keeper.stop()
        self.client.close()

    def living_editors(self) -> list[Editor]:
        return editors_seen(self.client, self.settings.internal_token)

    def wait_for_editors(self, seconds: float = 60.0) -> list[Editor]:
        """The heartbeats of all editors, once they are there."""

        def there() -> list[Editor] | None:
            pids = {editor.pid for editor in self.editors}
            seen = [editor for editor in self.living_editors() if editor.pid in pids]
            return seen if len(seen) == len(pids) else None

        return wait_for(there, "editors' heartbeats", seconds)

    def register(self, id: str, folder: Path, seconds: float = 60.0) -> Work:
        """Register a folder as a base model, and wait for it."""
        spec = BaseModelSpec(id=id, source=FolderSource(path=folder))
        work = self.store.bases.register(registration(spec, 3600))
        self.wake()
        return self.finished("base_model", work.id, SHARED_TENANT, seconds)

    def submit(self, tenant: str = "default", *, seconds: float = 3600, **body: Any) -> str:
        """Submit an edit, as `POST /v1/edits` does, due in `seconds`; returns its id."""
        settings = self.settings.model_copy(update={"edit_deadline_seconds": seconds})
        submission = Store.over(self.store.objects, settings).submission
        parsed = EditBody.model_validate(body)
        id = submission.edit(Sender(tenant, Actor()), parsed, body).work.id
        self.wake()
        return id

    def export(self, tenant: str = "default", **body: Any) -> str:
        sender = Sender(tenant, Actor())
        id = self.store.submission.export(sender, ExportBody.model_validate(body), body).work.id
        self.wake()
        return id

    def editor_of(self, claim: Claim) -> EditorProcess:
        """The editor whose child made the claim."""
        _, pid, _ = claim.worker.rsplit("-", 2)
        return next(editor for editor in self.editors if editor.pid == int(pid))

    def wake(self) -> None:
        with contextlib.suppress(redis.RedisError):
            live.wake_keeper(self.client)

    def read(self, kind: Kind, id: str, tenant: str = "default") -> Work:
        return self.store.work.read(kind, tenant, id)

    def finished(self, kind: Kind, id: str, tenant: str = "default", seconds: float = 60.0) -> Work:
        """The work, once it has a result."""

        def done() -> Work | None:
            work = self.read(kind, id, tenant)
            return work if work.result is not None else None

        return wait_for(done, f"{id} to be finished", seconds)

    def claimed(
        self, kind: Kind, id: str, tenant: str = "default", *, attempt: int = 1, seconds: float = 60
    ) -> Claim:
        """The claim of an attempt, once there is one."""

        def claim() -> Claim | None:
            work = self.read(kind, id, tenant)
            return work.claims[attempt - 1] if work.attempt >= attempt else None

        return wait_for(claim, f"attempt {attempt} at {id}", seconds)


def as_variables(settings: Settings) -> dict[str, str]:
    """Environment variables with these settings, for other processes."""
    values = settings.model_dump(mode="json", exclude_defaults=True)
    return {f"SCALPEL_{name.upper()}": str(value) for name, value in values.items()}


@contextlib.contextmanager
def running_cluster(
    settings: Settings,
    server: RedisServer,
    logs: Path,
    editors: int = 1,
    editor_env: dict[str, str] | None = None,
) -> Iterator[Cluster]:
    """A context with a cluster; `editor_env` goes to the editors alone."""
    cluster = Cluster(settings, server, logs, editors, editor_env)
    try:
        yield cluster
    finally:
        cluster.stop()


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
