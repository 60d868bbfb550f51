"""The queue: RQ carries the names of work to the editors, and nothing more.

A job may be lost or doubled: the claim in the store decides who does the work, and the keeper
enqueues again what nobody claimed. A job may also be forged, by whoever can write to Redis: RQ
would import and call any function that it names, so editors read jobs as `WorkJob`s.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis
import structlog
from rq import Queue
from rq.command import parse_payload, send_command
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer

from models_store.ids import ID_PATTERN, TENANT_PATTERN
from models_store.live import keys as redis_keys
from models_store.schemas.records import Claim
from models_store.work.store import FOLDERS, Place

_log = structlog.get_logger()

FUNCTION = "workers.editor.job.run"
"""Called with kind, tenant and id."""
STOP_COMMAND = "stop-attempt"
_LAST_JOB_LIFE_SECONDS = 24 * 3600
_FAILED_JOB_SECONDS = 60
_GRACE_SECONDS = 120
"""Added to RQ's time limit: the editor itself ends an attempt at its deadline before that."""


_READ = ("created_at", "enqueued_at", "origin", "status", "timeout", "result_ttl", "failure_ttl")
"""Fields of a job besides its data; callbacks, webhooks and repeats are others."""
_MOST_DATA_BYTES = 1024
"""Compressed; it may come to a thousand times as much."""


class WorkJob(Job):  # type: ignore[misc] # RQ is untyped
    """A job that can only be what `WorkQueue.enqueue` makes: whatever else is in Redis is skipped,
    like a job that has vanished."""

    def refresh(self) -> None:
        """Read the job.

        Raises:
            NoSuchJobError: there is none, or it is not a piece of work.
        """
        try:
            super().refresh()
        except redis.ResponseError as error:
            raise NoSuchJobError(f"{self.id} is not a job") from error

    def restore(self, raw_data: Mapping[bytes, bytes]) -> None:
        """Read the fields of a job.

        Raises:
            NoSuchJobError: it is not a piece of work.
        """
        try:
            known = {name: raw_data[name.encode()] for name in _READ if name.encode() in raw_data}
            data = raw_data[b"data"]
            if len(data) > _MOST_DATA_BYTES:
                raise ValueError("it is too large")
            super().restore({**known, "data": data})
            if (self.func_name, self.instance, self.kwargs) != (FUNCTION, None, {}):
                raise ValueError("it calls another function")
            _require_place(self.args)
        except Exception as error:
            _log.warning("a job that is no work was skipped", job=self.id, error=repr(error))
            raise NoSuchJobError(f"{self.id} is not a piece of work") from error


def _require_place(args: Sequence[object]) -> None:
    kind, tenant, id = args
    if kind not in FOLDERS:
        raise ValueError("no such kind of work")
    for value, pattern in ((tenant, TENANT_PATTERN), (id, ID_PATTERN)):
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise ValueError("it names no work")


@dataclass(frozen=True)
class QueuedJob:
    """The last job that was enqueued for a piece of work."""

    work_id: str
    attempt: int
    """The attempt that it starts."""
    number: int
    """1 for the first job of that attempt."""
    at: float
    """Unix seconds."""

    @property
    def job_id(self) -> str:
        return f"{self.work_id}-{self.attempt}-{self.number}"


class WorkQueue:
    """Work for editors, by pool. All methods raise `redis.RedisError` while Redis is away."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def enqueue(
        self, place: Place, pool: str, attempt: int, seconds: float, last: QueuedJob | None = None
    ) -> QueuedJob:
        """Enqueue an attempt for the editors of `pool`.

        The job is noted first: after a crash in between it counts as enqueued and not taken.

        Args:
            seconds: that the work has left.
            last: the job before, if there was one.
        """
        number = last.number + 1 if last is not None and last.attempt == attempt else 1
        job = QueuedJob(place.id, attempt, number, time.time())
        key = redis_keys.last_job(place.id)
        note = {"attempt": attempt, "number": number, "at": job.at}
        pipeline = self._client.pipeline()
        pipeline.hset(key, mapping=cast(Any, note))
        pipeline.expire(key, _LAST_JOB_LIFE_SECONDS)
        pipeline.execute()
        self._queue(pool).enqueue_call(
            func=FUNCTION,
            args=[place.kind, place.tenant, place.id],
            job_id=job.job_id,
            timeout=max(1, int(seconds)) + _GRACE_SECONDS,
            result_ttl=0,
            failure_ttl=_FAILED_JOB_SECONDS,
            description=place.id,
        )
        return job

    def last_jobs(self, work_ids: Sequence[str]) -> dict[str, QueuedJob]:
        """The last job of each of the ids that has one."""
        if not work_ids:
            return {}
        pipeline = self._client.pipeline(transaction=False)
        for id in work_ids:
            pipeline.hmget(redis_keys.last_job(id), "attempt", "number", "at")
        return {
            id: QueuedJob(id, int(attempt), int(number), float(at))
            for id, (attempt, number, at) in zip(work_ids, pipeline.execute(), strict=True)
            if at is not None
        }

    def waiting(self, pool: str) -> set[str]:
        """Ids of the jobs that no editor has taken yet."""
        return set(self._queue(pool).job_ids)

    def remove(self, job: QueuedJob, pool: str) -> None:
        """Take a job out of the queue."""
        self._queue(pool).remove(job.job_id)
        self._client.delete(redis_keys.last_job(job.work_id))

    def stop(self, claim: Claim) -> None:
        """Have the editor end the process of this attempt, and of no other."""
        send_command(self._client, claim.worker, STOP_COMMAND, pid=claim.pid)

    def _queue(self, pool: str) -> Queue:
        return Queue(redis_keys.queue(pool), connection=self._client, serializer=JSONSerializer)


def stopped_pid(message: Any) -> int | None:
    """The process that a message to an editor says to end; None for anything else."""
    try:
        payload = parse_payload(message)
        pid = payload["pid"] if payload["command"] == STOP_COMMAND else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return pid if isinstance(pid, int) else None
