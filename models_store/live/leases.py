"""Live state in Redis: leases of attempts, notices of dead processes.

All of it may be lost at any time; its owners then write it again. A `redis.RedisError` from here
means that Redis is away, never that work was lost.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, Literal, cast

import redis
from pydantic import BaseModel, ConfigDict, ValidationError
from redis.backoff import NoBackoff
from redis.retry import Retry

from models_store.live import keys as redis_keys
from models_store.live.redis import redis_url
from models_store.settings import Settings

TIMEOUT_SECONDS = 1.0
"""Time limit of a command; live state is best effort and must not hold up work."""
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
