"""When a request is repeated, and after how long."""

from __future__ import annotations

import random

import httpx

from scalpel_client.errors import APIConnectionError, APIError, APIStatusError

FIRST_SECONDS = 0.5
MOST_SECONDS = 8.0
PATIENCE_SECONDS = 60.0
"""A `Retry-After` above this is for whoever called to decide on."""
_REPEATABLE = ("GET", "HEAD", "PUT", "DELETE")
_REFUSED = (429, 503)
"""Nothing has been done."""
_PASSING = (408, 502, 504)
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


def may_repeat(error: APIError, method: str, *, keyed: bool = False) -> bool:
    """Whether a repeat does no harm and may succeed.

    Args:
        keyed: whether the request has an `Idempotency-Key`.
    """
    safe = keyed or method in _REPEATABLE
    if isinstance(error, APIConnectionError):
        return safe or isinstance(error.__cause__, _NOT_SENT)
    if isinstance(error, APIStatusError):
        if (error.retry_after or 0) > PATIENCE_SECONDS:
            return False
        return error.status_code in _REFUSED or (safe and error.status_code in _PASSING)
    return False


def delay(repeat: int, error: APIError | None = None) -> float:
    """Seconds before a repeat, the first of which is number 0: doubled each time, and spread so
    that clients which failed together do not come back together."""
    longest = min(MOST_SECONDS, FIRST_SECONDS * 2 ** min(repeat, 10))
    spread: float = longest * random.uniform(0.5, 1.0)  # noqa: S311
    asked = error.retry_after if isinstance(error, APIStatusError) else None
    return spread if asked is None else asked + random.uniform(0, 0.25)  # noqa: S311
