"""What a tenant may do in a time: token buckets in Redis, shared by all API processes.

While Redis is away each process keeps buckets of its own with the same rates, so nobody is refused
for it and nobody is let in without a bound.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, cast

import redis

from app.domain.accounts.limits import LimitTable
from app.domain.events.live_state import LiveState
from models_store.errors import QuotaExceeded, Standing
from models_store.live import keys as redis_keys

# The one number kept is when the bucket will be full again, by the clock of Redis.
_TAKE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + clock[2] / 1000
local size, speed = tonumber(ARGV[1]), tonumber(ARGV[2])
local amount, need = tonumber(ARGV[3]), tonumber(ARGV[4])
local full_at = math.max(now, tonumber(redis.call('GET', KEYS[1]) or '0'))
local taken = (full_at - now) * speed
local allowed = taken + need <= size
if allowed then
    full_at = math.max(now, full_at + amount / speed)
    taken = (full_at - now) * speed
    local life = math.ceil(full_at - now) + 1000
    redis.call('SET', KEYS[1], string.format('%.3f', full_at), 'PX', life)
end
return {allowed and 1 or 0, string.format('%.3f', taken)}
"""
_REMEMBERED = 10_000
_WINDOW_OF_TOKENS = 60.0


@dataclass(frozen=True)
class _Bucket:
    key: str
    size: float
    speed: float
    """What flows back in a millisecond."""


class _OwnBuckets:
    """Buckets of this process, of the tenants that came last."""

    def __init__(self) -> None:
        self._full_at: OrderedDict[str, float] = OrderedDict()
        """Milliseconds of `time.monotonic()`."""
        self._lock = Lock()

    def take(self, bucket: _Bucket, amount: float, need: float) -> tuple[bool, float]:
        now = time.monotonic() * 1000
        with self._lock:
            full_at = max(now, self._full_at.get(bucket.key, now))
            allowed = (full_at - now) * bucket.speed + need <= bucket.size
            if allowed:
                full_at = max(now, full_at + amount / bucket.speed)
                self._full_at[bucket.key] = full_at
                self._full_at.move_to_end(bucket.key)
                while len(self._full_at) > _REMEMBERED:
                    self._full_at.popitem(last=False)
            return allowed, (full_at - now) * bucket.speed


class Rates:
    """Counts requests and generated tokens; safe to use from several threads."""

    def __init__(self, live: LiveState, limits: LimitTable) -> None:
        self._live = live
        self._limits = limits
        self._own = _OwnBuckets()

    def count_request(self, tenant: str) -> Standing:
        """One more request.

        Raises:
            QuotaExceeded: `rate_limited`, it is one too many.
        """
        limits = self._limits.of(tenant)
        speed = limits.requests_per_second / 1000
        bucket = _Bucket(redis_keys.bucket("requests", tenant), limits.request_burst, speed)
        allowed, taken = self._take(bucket, 1, 1)
        standing = _standing("requests", bucket, taken)
        if not allowed:
            raise QuotaExceeded(
                f"more than {limits.requests_per_second:g} requests a second; after a pause "
                f"{limits.request_burst} at once",
                code="rate_limited",
                retry_after=_seconds((taken + 1 - bucket.size) / bucket.speed),
                standing=standing,
            )
        return standing

    def reserve_tokens(self, tenant: str, count: int) -> Standing:
        """Set aside what a request may generate at most; `give_back_tokens` what it did not.

        A request is let in while anything is left, so that a large one can be served at all; what
        it takes beyond that has to flow back before the next one.

        Raises:
            QuotaExceeded: `rate_limited`, nothing is left.
        """
        bucket = self._tokens(tenant)
        allowed, taken = self._take(bucket, count, 1)
        standing = _standing("tokens", bucket, taken)
        if not allowed:
            raise QuotaExceeded(
                f"more than {bucket.size:g} tokens generated in a minute, those that requests "
                "under way may still come to included",
                code="rate_limited",
                retry_after=_seconds((taken + 1 - bucket.size) / bucket.speed),
                standing=standing,
            )
        return standing

    def give_back_tokens(self, tenant: str, count: int) -> None:
        if count > 0:
            self._take(self._tokens(tenant), -count, -math.inf)

    def _tokens(self, tenant: str) -> _Bucket:
        size = self._limits.of(tenant).tokens_per_minute
        speed = size / _WINDOW_OF_TOKENS / 1000
        return _Bucket(redis_keys.bucket("tokens", tenant), size, speed)

    def _take(self, bucket: _Bucket, amount: float, need: float) -> tuple[bool, float]:
        """Whether `need` was there, so that `amount` was taken; what is taken of the bucket now."""

        def question(client: redis.Redis) -> tuple[bool, float]:
            arguments = [bucket.size, bucket.speed, amount, max(need, -1e300)]
            script = client.register_script(_TAKE)
            allowed, taken = cast(Sequence[Any], script(keys=[bucket.key], args=arguments))
            return bool(int(allowed)), float(taken)

        found = self._live.ask(question)
        return found if found is not None else self._own.take(bucket, amount, need)


def _standing(name: str, bucket: _Bucket, taken: float) -> Standing:
    return Standing(
        name,
        size=int(bucket.size),
        left=max(0, math.floor(bucket.size - taken)),
        window=bucket.size / bucket.speed / 1000,
        full_in=taken / bucket.speed / 1000,
    )


def _seconds(milliseconds: float) -> int:
    return max(1, math.ceil(milliseconds / 1000))
