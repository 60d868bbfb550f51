"""The queue, which is a doorbell: RQ carries names of work to the editors, and nothing more.

A ring may be lost or doubled. Who claims the work in the store does it; the keeper rings again
for what nobody claimed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis
from rq import Queue
from rq.command import send_command
from rq.serializers import JSONSerializer

from models_store.live import keys as redis_keys
from models_store.schemas.records import Claim
from models_store.work.store import Place

FUNCTION = "workers.editor.job.run"
"""Called with kind, tenant and id."""
STOP_COMMAND = "stop-attempt"
_RING_LIFE_SECONDS = 24 * 3600
_FAILED_JOB_SECONDS = 60
_GRACE_SECONDS = 120
"""The editor ends an attempt at its deadline by itself; RQ's limit comes later, if it does not."""


@dataclass(frozen=True)
class Ring:
    """The last time that the bell was rung for a piece of work."""

    work_id: str
    attempt: int
    """The attempt that it is to begin."""
    number: int
    """1 for the first ring of that attempt."""
    at: float
    """Unix seconds."""

    @property
    def job_id(self) -> str:
        return f"{self.work_id}-{self.attempt}-{self.number}"


class Doorbell:
    """Rings editors. All methods raise `redis.RedisError` while Redis is away."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def ring(
        self, place: Place, pool: str, attempt: int, deadline: float, last: Ring | None = None
    ) -> Ring:
        """Tell the editors of `pool` that an attempt is due.

        The ring is noted before it is made: after a crash in between it counts as unanswered.

        Args:
            deadline: of the work, Unix seconds.
            last: the ring before, where there was one.
        """
        number = last.number + 1 if last is not None and last.attempt == attempt else 1
        ring = Ring(place.id, attempt, number, time.time())
        key = redis_keys.ring(place.id)
        note = {"attempt": attempt, "number": number, "at": ring.at}
        pipeline = self._client.pipeline()
        pipeline.hset(key, mapping=cast(Any, note))
        pipeline.expire(key, _RING_LIFE_SECONDS)
        pipeline.execute()
        self._queue(pool).enqueue_call(
            func=FUNCTION,
            args=[place.kind, place.tenant, place.id],
            job_id=ring.job_id,
            timeout=max(1, int(deadline - time.time())) + _GRACE_SECONDS,
            result_ttl=0,
            failure_ttl=_FAILED_JOB_SECONDS,
            description=place.id,
        )
        return ring

    def rings(self, work_ids: Sequence[str]) -> dict[str, Ring]:
        """The last ring of each of the ids, where there was one."""
        if not work_ids:
            return {}
        pipeline = self._client.pipeline(transaction=False)
        for id in work_ids:
            pipeline.hmget(redis_keys.ring(id), "attempt", "number", "at")
        return {
            id: Ring(id, int(attempt), int(number), float(at))
            for id, (attempt, number, at) in zip(work_ids, pipeline.execute(), strict=True)
            if at is not None
        }

    def waiting(self, pool: str) -> set[str]:
        """Ids of the jobs that no editor has taken yet."""
        return set(self._queue(pool).job_ids)

    def take_back(self, ring: Ring, pool: str) -> None:
        """Take a ring out of the queue, for work that nobody has to do any more."""
        self._queue(pool).remove(ring.job_id)
        self._client.delete(redis_keys.ring(ring.work_id))

    def stop(self, claim: Claim) -> None:
        """Have the editor that runs this attempt, and no other, end its process."""
        send_command(self._client, claim.worker, STOP_COMMAND, pid=claim.pid)

    def _queue(self, pool: str) -> Queue:
        return Queue(redis_keys.queue(pool), connection=self._client, serializer=JSONSerializer)


def stopped_pid(payload: dict[str, Any]) -> int | None:
    """The process that a stop command is about; None when the command is another one."""
    pid = payload.get("pid")
    return pid if payload.get("command") == STOP_COMMAND and isinstance(pid, int) else None
