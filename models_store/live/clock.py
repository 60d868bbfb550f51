"""The time that decides about deadlines: that of Redis, which all processes share.

A process whose own clock is wrong would end edits that have hours left, or make requests whose
deadline is over. It compares itself with Redis, and where both differ by more than a minute it
decides nothing: one of them is wrong, and it cannot know which.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any, cast

import redis
import structlog

MOST_SECONDS = 60.0
"""That a clock may differ from Redis' and still decide."""
_COMPARE_SECONDS = 30.0
_log = structlog.get_logger()


def redis_time(client: redis.Redis) -> float:
    """Unix seconds by the clock of Redis."""
    seconds, micros = cast(tuple[Any, Any], client.time())
    return int(seconds) + int(micros) / 1e6


class SharedClock:
    """Safe to use from several threads."""

    def __init__(
        self, ask: Callable[[], float | None], local: Callable[[], float] = time.time
    ) -> None:
        """
        Args:
            ask: gives the time of Redis, Unix seconds; None while it is away.
            local: this process's own clock.
        """
        self._ask = ask
        self._local = local
        self._offset: float | None = None
        """Seconds that Redis is ahead; None: it was never reached."""
        self._compared_at = float("-inf")
        self._said = False
        self._lock = threading.Lock()

    @classmethod
    def of(cls, client: redis.Redis) -> SharedClock:
        def ask() -> float | None:
            with contextlib.suppress(redis.RedisError):
                return redis_time(client)
            return None

        return cls(ask)

    def now(self) -> float:
        """Unix seconds by Redis' clock, as far as it is known."""
        self._compare()
        return self._local() + (self._offset or 0.0)

    def trusted(self) -> float | None:
        """The same where this process may end work since time is over; else None."""
        now = self.now()
        known = self._offset is not None and abs(self._offset) <= MOST_SECONDS
        return now if known else None

    def _compare(self) -> None:
        with self._lock:
            if time.monotonic() < self._compared_at + _COMPARE_SECONDS:
                return
            self._compared_at = time.monotonic()
            before = self._local()
            shared = self._ask()
            if shared is None:
                return  # what was known stays
            self._offset = shared - (before + self._local()) / 2
            wrong = abs(self._offset) > MOST_SECONDS
            if wrong and not self._said:
                _log.error(
                    "this clock and that of Redis differ: no deadline is enforced here until one "
                    "of them is set right",
                    seconds=round(self._offset),
                )
            self._said = wrong
