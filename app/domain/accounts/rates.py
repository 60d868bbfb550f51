"""What a tenant may do in a time: token buckets in Redis, shared by all API processes.

While Redis is away each process keeps buckets of its own with the same rates, so nobody is refused
for it and nobody is let in without a bound.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, cast

import redis
from cachetools import LRUCache

from app.domain.accounts.limits import LimitTable, TenantLimits
from app.domain.batches import Batches
from app.domain.events.live_state import LiveState
from models_store.errors import LimitUse, QuotaExceeded
from models_store.live import keys as redis_keys

# The one number kept is when the bucket will be full again, by the clock of Redis.
_TAKE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + clock[2] / 1000
local size, speed = tonumber(ARGV[1]), tonumber(ARGV[2])
local amount, need = tonumber(ARGV[3]), tonumber(ARGV[4])
local full_at = math.max(now, tonumber(redis.call('GET', KEYS[1]) or '0'))
local replies = {}
local changed = false
for _ = 1, tonumber(ARGV[5]) do
    local taken = (full_at - now) * speed
    local allowed = taken + need <= size
    if allowed then
        full_at = math.max(now, full_at + amount / speed)
        taken = (full_at - now) * speed
        changed = true
    end
    replies[#replies + 1] = allowed and 1 or 0
    replies[#replies + 1] = string.format('%.3f', taken)
end
if changed then
    local life = math.ceil(full_at - now) + 1000
    redis.call('SET', KEYS[1], string.format('%.3f', full_at), 'PX', life)
end
return replies
"""
_REMEMBERED = 10_000
_WINDOW_OF_TOKENS = 60.0


@dataclass(frozen=True)
class _Bucket:
    key: str
    size: float
    speed: float
    """What flows back in a millisecond."""


class _LocalBuckets:
    """Buckets of this process, of the tenants that came last."""

    def __init__(self) -> None:
        self._full_at: LRUCache[str, float] = LRUCache(_REMEMBERED)
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
            return allowed, (full_at - now) * bucket.speed


class Rates:
    """Counts requests and generated tokens; safe to use from several threads."""

    def __init__(self, live: LiveState, limits: LimitTable) -> None:
        self._live = live
        self._limits = limits
        self._local = _LocalBuckets()
        self._requests: Batches[str, LimitUse] = Batches(self._count_requests, "rates")

    async def count_request(self, tenant: str) -> LimitUse:
        """One more request.

        Raises:
            QuotaExceeded: `rate_limited`, it is one too many.
        """
        return await self._requests.get(tenant)

    def close(self) -> None:
        self._requests.close()

    def _count_requests(self, tenants: Sequence[str]) -> list[LimitUse | Exception]:
        """Count a request of each of the tenants, which may be named more than once."""
        counts = Counter(tenants)
        uses = {tenant: iter(self._requests_of(tenant, counts[tenant])) for tenant in counts}
        return [next(uses[tenant]) for tenant in tenants]

    def _requests_of(self, tenant: str, count: int) -> Iterator[LimitUse | Exception]:
        bucket = self._bucket_of_requests("requests", tenant, self._limits.of(tenant))
        for allowed, taken in self._take(bucket, 1, 1, count):
            yield _use("requests", bucket, taken) if allowed else _too_many(bucket, taken)

    def count_stranger(self, address: str) -> None:
        """One more request from an address without a valid key; bounded like those of a tenant, in
        each process by itself.

        Raises:
            QuotaExceeded: `rate_limited`, it is one too many.
        """
        bucket = self._strangers(address)
        allowed, taken = self._local.take(bucket, 1, 1)
        if not allowed:
            raise _too_many(bucket, taken)

    def give_back_stranger(self, address: str) -> None:
        """The request had a valid key after all."""
        self._local.take(self._strangers(address), -1, -math.inf)

    def _strangers(self, address: str) -> _Bucket:
        return self._bucket_of_requests("address", address, self._limits.default)

    @staticmethod
    def _bucket_of_requests(of: str, name: str, limits: TenantLimits) -> _Bucket:
        speed = limits.requests_per_second / 1000
        return _Bucket(redis_keys.bucket(of, name), limits.request_burst, speed)

    def reserve_tokens(self, tenant: str, count: int) -> LimitUse:
        """Set aside what a request may generate at most; `give_back_tokens` what it did not.

        A request is let in while anything is left, so that a large one can be served at all; what
        it takes beyond that has to flow back before the next one.

        Raises:
            QuotaExceeded: `rate_limited`, nothing is left.
        """
        bucket = self._tokens(tenant)
        [(allowed, taken)] = self._take(bucket, count, 1)
        use = _use("tokens", bucket, taken)
        if not allowed:
            raise QuotaExceeded(
                f"more than {bucket.size:g} tokens generated in a minute, those that requests "
                "under way may still come to included",
                code="rate_limited",
                retry_after=_seconds((taken + 1 - bucket.size) / bucket.speed),
                use=use,
            )
        return use

    def give_back_tokens(self, tenant: str, count: int) -> None:
        if count > 0:
            self._take(self._tokens(tenant), -count, -math.inf)

    def _tokens(self, tenant: str) -> _Bucket:
        size = self._limits.of(tenant).tokens_per_minute
        speed = size / _WINDOW_OF_TOKENS / 1000
        return _Bucket(redis_keys.bucket("tokens", tenant), size, speed)

    def _take(
        self, bucket: _Bucket, amount: float, need: float, times: int = 1
    ) -> list[tuple[bool, float]]:
        """Each time: whether `need` was there, so that `amount` was taken; what is taken of the
        bucket now."""

        def read(client: redis.Redis) -> list[tuple[bool, float]]:
            arguments = [bucket.size, bucket.speed, amount, max(need, -1e300), times]
            script = client.register_script(_TAKE)
            replies = cast(Sequence[Any], script(keys=[bucket.key], args=arguments))
            return [
                (bool(int(allowed)), float(taken))
                for allowed, taken in zip(replies[::2], replies[1::2], strict=True)
            ]

        taken = self._live.query(read)
        if taken is None:
            taken = [self._local.take(bucket, amount, need) for _ in range(times)]
        return taken


def _use(name: str, bucket: _Bucket, taken: float) -> LimitUse:
    return LimitUse(
        name,
        size=int(bucket.size),
        left=max(0, math.floor(bucket.size - taken)),
        window=bucket.size / bucket.speed / 1000,
        full_in=taken / bucket.speed / 1000,
    )


def _too_many(bucket: _Bucket, taken: float) -> QuotaExceeded:
    return QuotaExceeded(
        f"more than {1000 * bucket.speed:g} requests a second; after a pause {bucket.size:g} at "
        "once",
        code="rate_limited",
        retry_after=_seconds((taken + 1 - bucket.size) / bucket.speed),
        use=_use("requests", bucket, taken),
    )


def _seconds(milliseconds: float) -> int:
    return max(1, math.ceil(milliseconds / 1000))
