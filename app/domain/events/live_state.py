"""The present state in Redis: stages, heartbeats, who holds a lease.

Nothing here is needed for a response to be right. Without Redis every query returns None
(unknown), within a fraction of a second.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import redis
from pydantic import BaseModel, ConfigDict

from app.domain.events.events import Event, EventType, stage_id
from models_store.errors import Unavailable
from models_store.live import keys as redis_keys
from models_store.live import leases as live
from models_store.live.heartbeats import Editor, beats, editors_seen, internal_token
from models_store.schemas.records import STAGES, Stage
from models_store.settings import Settings, is_loopback

_PAUSE_SECONDS = 1.0
"""After a failure, queries return None at once for this long."""
T = TypeVar("T")


class Generator(BaseModel):
    """A generator's heartbeat."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    url: str
    base_models: tuple[str, ...] = ()
    """That it holds now."""
    serves: tuple[str, ...] | None = None
    """That it can load; None: any."""
    reads: bool = True
    """Whether it can look at texts."""
    busy: int = 0


@dataclass(frozen=True)
class EditProgress:
    """Where a running edit is."""

    attempt: int
    stage: Stage
    progress: float | None


class LiveState:
    """Questions to Redis; safe to use from several threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._token = internal_token(settings)
        self._client: redis.Redis | None = None
        self._silent_until = 0.0

    @property
    def client(self) -> redis.Redis:
        """A client that gives up at once.

        Raises:
            Unavailable: no Redis is set up.
        """
        if self._client is None:
            self._client = live.connect(self._settings)
        return self._client

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def query(self, read: Callable[[redis.Redis], T]) -> T | None:
        """What `read` returns; None while Redis is away."""
        if time.monotonic() < self._silent_until:
            return None
        try:
            return read(self.client)
        except (redis.RedisError, Unavailable, OSError):
            self._silent_until = time.monotonic() + _PAUSE_SECONDS
            return None

    def is_up(self) -> bool:
        return self.query(lambda client: bool(client.ping())) is True

    def has_keeper(self) -> bool | None:
        return self.query(lambda client: bool(client.exists(redis_keys.KEEPER)))

    def wake_keeper(self) -> None:
        """Best effort: the keeper looks around by itself too."""
        self.query(live.wake_keeper)

    def editors(self) -> list[Editor] | None:
        return self.query(lambda client: editors_seen(client, self._token))

    def generators(self) -> list[Generator] | None:
        """Those that a token may be sent to."""
        seen = self.query(
            lambda client: beats(client, redis_keys.GENERATORS, self._token, Generator)
        )
        if seen is None or self._token:
            return seen
        # Without a token anybody can sign, but generators listen on loopback addresses only.
        return [each for each in seen if is_loopback(urlsplit(each.url).hostname or "")]

    def leased(self, work_ids: Sequence[str]) -> set[str] | None:
        """Those of the ids that somebody works on."""
        keys = [redis_keys.lease(id) for id in work_ids]
        if not keys:
            return set()
        values = self.query(lambda client: cast(list[Any], client.mget(keys)))
        if values is None:
            return None
        return {id for id, value in zip(work_ids, values, strict=True) if value is not None}

    def progress(self, work_ids: Sequence[str]) -> dict[str, EditProgress]:
        """Stage and progress of those that Redis knows."""

        def read(client: redis.Redis) -> list[Any]:
            pipeline = client.pipeline(transaction=False)
            for id in work_ids:
                pipeline.hgetall(redis_keys.progress(id))
            return pipeline.execute()

        replies = self.query(read) if work_ids else []
        parsed = (
            (id, _progress(_text(fields)))
            for id, fields in zip(work_ids, replies or (), strict=False)
        )
        return {id: progress for id, progress in parsed if progress is not None}

    def events(self, work_id: str, after: str = "-") -> list[tuple[str, Event]]:
        """Stage and progress events that came after the stream position `after`."""
        first = "-" if after == "-" else f"({after}"
        entries = self.query(
            lambda client: cast(list[Any], client.xrange(redis_keys.events(work_id), min=first))
        )
        read = (
            (position.decode(), _event(work_id, position.decode(), _text(entry)))
            for position, entry in entries or ()
        )
        return [(position, event) for position, event in read if event is not None]


def _text(fields: dict[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in fields.items()}


def _progress(fields: dict[str, str]) -> EditProgress | None:
    try:
        stage, attempt = fields["stage"], int(fields["attempt"])
        progress = float(fields["progress"]) if fields.get("progress") else None
    except (KeyError, ValueError):
        return None
    return EditProgress(attempt, stage, progress) if stage in STAGES else None


def _event(work_id: str, position: str, entry: dict[str, str]) -> Event | None:
    try:
        kind, data = entry["type"], json.loads(entry["data"])
        attempt, stage = int(data["attempt"]), data["stage"]
    except (KeyError, TypeError, ValueError):
        return None
    types: dict[str, EventType] = {"edit.stage": "edit.stage", "edit.progress": "edit.progress"}
    if kind not in types or stage not in STAGES:
        return None
    return Event(
        id=stage_id(attempt, stage) if kind == "edit.stage" else None,
        type=types[kind],
        edit_id=work_id,
        created_at=int(position.partition("-")[0]) // 1000,
        data=data,
    )
