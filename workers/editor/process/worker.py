"""The editor's parent process: RQ's forking worker, with a few of its habits changed.

It touches neither the store (an object-store client used before a fork hangs after it) nor an
accelerator. It reports the end of its children to the keeper through Redis.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import redis
import structlog
from rq import Worker
from rq.exceptions import StopRequested
from rq.serializers import JSONSerializer
from rq.utils import now

from models_store.live import keys as redis_keys
from models_store.live.leases import DeathNotice, connect, notify_death
from models_store.live.queue import WorkJob, stopped_pid
from models_store.process.lifetimes import die_with_parent
from models_store.settings import Settings
from workers.editor.process import exits
from workers.editor.process.idle import IdleProcess

_log = structlog.get_logger()

_WORKER_LIFE_SECONDS = 60
"""Of RQ's own record of the worker, which nothing here reads."""


class EditorWorker(Worker):  # type: ignore[misc] # RQ is untyped
    """Takes work of one pool, one piece at a time, each in a child of its own."""

    max_connection_wait_time = 2.0

    def __init__(self, settings: Settings, connection: redis.Redis) -> None:
        name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        # One queue: RQ loses jobs of a worker that dies while it waits for two.
        super().__init__(
            [redis_keys.queue(settings.pool)],
            name=name,
            connection=connection,
            job_class=WorkJob,
            serializer=JSONSerializer,
            worker_ttl=_WORKER_LIFE_SECONDS,
            log_job_description=False,
        )
        self._settings = settings
        self._live = connect(settings)
        self._idle = IdleProcess(settings)
        self._forking = False
        """A hook of the fork would swallow what a signal handler raises."""
        self._work_id: str | None = None
        self._ended_by_us = False
        self.on_change: Callable[[], None] = lambda: None
        """Called when `description` has changed."""
        self.on_drain: Callable[[], None] = lambda: None
        """Called when no more work is taken."""

    @property
    def description(self) -> dict[str, Any]:
        """The heartbeat, as `models_store.live.heartbeats.Editor` reads it."""
        return {
            "name": self.name,
            "pool": self._settings.pool,
            "host": self.hostname,
            "pid": self.pid,
            "state": "idle" if self._work_id is None else "busy",
            "work_id": self._work_id,
            "at": time.time(),
        }

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> Any:
        """Wait for work, and prepare base models meanwhile."""
        self._forking = True
        self._idle.start()
        self._forking = False
        if self._stop_requested:
            raise StopRequested
        return super().dequeue_job_and_maintain_ttl(timeout, max_idle_time)

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """RQ's own, many times a minute."""
        super().heartbeat(timeout, pipeline)
        self._idle.tidy()

    def execute_job(self, job: Any, queue: Any) -> None:
        self._idle.stop()
        _, _, self._work_id = job.args
        self._ended_by_us = False
        self.on_change()
        try:
            super().execute_job(job, queue)
        finally:
            self._work_id = None
            self.on_change()

    def main_work_horse(self, job: Any, queue: Any) -> None:
        """The child's first steps."""
        exits.forked_at = time.monotonic()
        die_with_parent(self.pid)
        super().main_work_horse(job, queue)

    def wait_for_horse(self) -> tuple[int | None, int | None, Any]:
        pid, status, usage = super().wait_for_horse()
        if pid and status and self._work_id is not None:
            self._report_death(self._work_id, pid, status)
        return pid, status, usage

    def kill_horse(self, sig: signal.Signals = signal.SIGKILL) -> None:
        """End the child. RQ's way, by process group, could hit this process right after a fork."""
        if self.horse_pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.horse_pid, sig)

    def handle_payload(self, message: Any) -> None:
        """Called in the thread that listens for commands; RQ's own are ignored."""
        pid = stopped_pid(message)
        if pid is not None and pid == self.horse_pid:
            self._end_child()

    def maintain_heartbeats(self, job: Any, execution: Any) -> None:
        """RQ would end the worker, and with it hours of work, when Redis is away for a while."""
        try:
            super().maintain_heartbeats(job, execution)
        except (redis.ConnectionError, redis.TimeoutError) as error:
            _log.warning("Redis is away; the work goes on", error=str(error))

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """First SIGTERM or SIGINT: the child hands its work back, then this process ends."""
        self._shutdown_requested_date = now()  # a second signal within a second is ignored
        signal.signal(signal.SIGINT, self.request_force_stop)
        signal.signal(signal.SIGTERM, self.request_force_stop)
        if self._forking:
            self._stop_requested = True
            return
        if not self.horse_pid:
            raise StopRequested
        self._stop_requested = True
        self.on_drain()
        self.kill_horse(signal.SIGTERM)
        timer = threading.Timer(self._settings.drain_seconds, self._end_child)
        timer.daemon = True
        timer.start()

    def teardown(self) -> None:
        self._idle.stop()
        super().teardown()

    def _end_child(self) -> None:
        self._ended_by_us = True
        self.kill_horse()

    def _report_death(self, work_id: str, pid: int, status: int) -> None:
        killed = os.WIFSIGNALED(status)
        code = os.WTERMSIG(status) if killed else os.waitstatus_to_exitcode(status)
        notice = DeathNotice(
            worker=self.name,
            host=self.hostname or "",
            pid=pid,
            reason=f"signal {code}" if killed else f"exit code {code}",
            on_purpose=self._ended_by_us or (not killed and code in exits.ON_PURPOSE),
        )
        _log.warning("the process of an attempt ended", work_id=work_id, **notice.model_dump())
        # Without Redis the keeper goes by the lease.
        with contextlib.suppress(redis.RedisError):
            notify_death(self._live, work_id, notice)
