"""Reports progress through Redis; nothing waits for it and nothing depends on it."""

from __future__ import annotations

import json
import time
from typing import Any, cast

import redis

from models_store.live import keys as redis_keys

_LIFE_SECONDS = 24 * 3600
_MAX_EVENTS = 1000
_INTERVAL_SECONDS = 0.25
"""Between two events of progress within a stage."""
_PAUSE_SECONDS = 5.0
"""After a failure, nothing is reported for so long: each failure may take a second or two."""


class ProgressReporter:
    """Writes stage and progress of one attempt; called from the thread that does the work."""

    def __init__(self, client: redis.Redis, work_id: str, attempt: int) -> None:
        self._client = client
        self._work_id = work_id
        self._attempt = attempt
        self._stage: str | None = None
        self._next_at = 0.0

    def __call__(self, stage: str, progress: float) -> None:
        """The work is at `stage`, of which the share `progress`, in [0, 1], is done."""
        now = time.monotonic()
        entered = stage != self._stage
        if not entered and now < self._next_at:
            return
        self._stage = stage
        self._next_at = now + _INTERVAL_SECONDS
        # `load` begins with the attempt, which the records show.
        kind = "edit.progress" if not entered else "edit.stage" if stage != "load" else None
        try:
            self._write(kind, {"attempt": self._attempt, "stage": stage, "progress": progress})
        except redis.RedisError:
            self._next_at = now + _PAUSE_SECONDS

    def _write(self, kind: str | None, data: dict[str, Any]) -> None:
        pipeline = self._client.pipeline()
        key = redis_keys.progress(self._work_id)
        pipeline.hset(key, mapping=cast(Any, data))
        pipeline.expire(key, _LIFE_SECONDS)
        if kind is not None:
            events = redis_keys.events(self._work_id)
            fields = cast(Any, {"type": kind, "data": json.dumps(data)})
            pipeline.xadd(events, fields, maxlen=_MAX_EVENTS, approximate=True)
            pipeline.expire(events, _LIFE_SECONDS)
        pipeline.execute()
