"""Live state in Redis: heartbeats of editors, leases of attempts, notices of dead processes.

All of it may be lost at any time; its owners then write it again. A `redis.RedisError` from here
means that Redis is away, never that work was lost.
"""

from __future__ import annotations

import contextlib
import json
import queue
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, cast

import redis
from pydantic import BaseModel, ConfigDict, ValidationError
from redis.backoff import NoBackoff
from redis.retry import Retry

from models_store.live import keys as redis_keys
from models_store.live.redis import redis_url
from models_store.settings import Settings

TIMEOUT_SECONDS = 1.0
"""Time limit of a command; live state is best effort and must not hold up work."""
HEARTBEAT_SECONDS = 2.0
HEARTBEAT_LIFE_SECONDS = 6
_NOTICE_LIFE_SECONDS = 3600
_MAX_WAKES = 16

_RENEW = """
local held = redis.call('GET', KEYS[1])
if held == ARGV[1] then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    return 1
end
return held and -1 or 0
"""
# Taking it again with the same value succeeds: the reply to an earlier try may have been lost.
_TAKE = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


def connect(settings: Settings) -> redis.Redis:
    """A client that gives up at once when Redis is away; nothing is sent before its first use.

    Raises:
        Unavailable: no Redis is set up.
    """
    return redis.Redis.from_url(
        redis_url(settings),
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        # One immediate retry: a restarted server refuses only the old connection.
        retry=Retry(NoBackoff(), 1),
    )


class TokenLease:
    """A key that holds this process's token for a while and so shows others that it lives."""

    def __init__(self, client: redis.Redis, key: str, value: str, seconds: float) -> None:
        self._client = client
        self._key = key
        self._value = value
        self._milliseconds = int(seconds * 1000)

    def take(self) -> bool:
        """Take the lease if it is free or already ours; False when another process has it."""
        return self._run(_TAKE, self._value, self._milliseconds) == 1

    def replace(self) -> None:
        """Take the lease, whoever has it."""
        self._client.set(self._key, self._value, px=self._milliseconds)

    def renew(self) -> Literal["renewed", "missing", "taken"]:
        """Extend our lease; one that is missing is not taken again."""
        code = self._run(_RENEW, self._value, self._milliseconds)
        return "renewed" if code == 1 else "missing" if code == 0 else "taken"

    def release(self) -> None:
        self._run(_RELEASE, self._value)

    def _run(self, script: str, *arguments: Any) -> int:
        return int(cast(int, self._client.eval(script, 1, self._key, *arguments)))


def attempt_lease(client: redis.Redis, work_id: str, attempt: int, seconds: float) -> TokenLease:
    """The lease of one attempt, to be held by the process that claimed it."""
    value = f"{attempt}:{secrets.token_hex(8)}"
    return TokenLease(client, redis_keys.lease(work_id), value, seconds)


@dataclass(frozen=True)
class LeaseSeen:
    """A lease as another process sees it."""

    attempt: int
    seconds_left: float


def leases_seen(client: redis.Redis, work_ids: list[str]) -> dict[str, LeaseSeen]:
    """The leases of those of the ids that a process works on."""
    if not work_ids:
        return {}
    pipeline = client.pipeline(transaction=False)
    for id in work_ids:
        pipeline.get(redis_keys.lease(id))
        pipeline.pttl(redis_keys.lease(id))
    replies = pipeline.execute()
    seen = {}
    for id, value, left in zip(work_ids, replies[::2], replies[1::2], strict=True):
        attempt = bytes(value or b"").partition(b":")[0]
        if attempt.isdigit() and left > 0:
            seen[id] = LeaseSeen(int(attempt), left / 1000)
    return seen


class DeathNotice(BaseModel):
    """An editor reports how its process for one attempt ended."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    worker: str
    host: str
    pid: int
    reason: str
    """Such as `signal 9`."""
    on_purpose: bool
    """The editor ended it, or it returned its work to the queue: not counted against the work."""


def notify_death(client: redis.Redis, work_id: str, notice: DeathNotice) -> None:
    client.set(redis_keys.death(work_id), notice.model_dump_json(), ex=_NOTICE_LIFE_SECONDS)
    wake_keeper(client)


def death_notices(client: redis.Redis, work_ids: list[str]) -> dict[str, DeathNotice]:
    if not work_ids:
        return {}
    values = cast(list[Any], client.mget([redis_keys.death(id) for id in work_ids]))
    notices = {}
    for id, value in zip(work_ids, values, strict=True):
        try:
            notices[id] = DeathNotice.model_validate_json(value or b"")
        except ValidationError:
            continue  # none, or written by another version
    return notices


def wake_keeper(client: redis.Redis) -> None:
    """Have the keeper look at open work now instead of at its next turn."""
    pipeline = client.pipeline()
    pipeline.lpush(redis_keys.WAKE, "1")
    pipeline.ltrim(redis_keys.WAKE, 0, _MAX_WAKES - 1)
    pipeline.execute()


class Editor(BaseModel):
    """An editor's heartbeat."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    pool: str
    host: str
    pid: int
    state: Literal["idle", "busy"] = "idle"
    work_id: str | None = None
    at: float
    """Unix seconds."""


def editors_seen(client: redis.Redis) -> list[Editor]:
    """The editors that are alive and take work."""
    keys = sorted(client.scan_iter(f"{redis_keys.EDITORS}*", count=1000))
    editors = []
    for value in cast(list[Any], client.mget(keys)) if keys else []:
        try:
            editors.append(Editor.model_validate_json(value or b""))
        except ValidationError:
            continue  # gone since it was listed, or written by another version
    return editors


class Heartbeat:
    """A context in which a thread writes `describe()` under `key` every two seconds."""

    def __init__(
        self,
        client: redis.Redis,
        key: str,
        describe: Callable[[], Mapping[str, Any]],
        seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._client = client
        self._key = key
        self._describe = describe
        self._seconds = seconds
        self._changed: queue.SimpleQueue[None] = queue.SimpleQueue()
        """Not an Event: signal handlers call `beat` and `stop`, and one that interrupts its thread
        while that sets an Event would wait for ever for the lock that the thread holds."""
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Stop, and delete the heartbeat, so that nothing more is sent to this process."""
        self.stop()
        self._thread.join(2 * TIMEOUT_SECONDS)

    def beat(self) -> None:
        """Write now, since something changed."""
        self._changed.put(None)

    def stop(self) -> None:
        self._stopped = True
        self._changed.put(None)

    def _run(self) -> None:
        # While Redis is away nobody can read it either, and the next beat comes soon.
        while not self._stopped:
            value = json.dumps(self._describe())
            with contextlib.suppress(redis.RedisError):
                self._client.set(self._key, value, ex=HEARTBEAT_LIFE_SECONDS)
            with contextlib.suppress(queue.Empty):
                self._changed.get(timeout=self._seconds)
                while True:  # one write covers all changes
                    self._changed.get_nowait()
        with contextlib.suppress(redis.RedisError):
            self._client.delete(self._key)
