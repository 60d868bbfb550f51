"""What holds where nothing else is said."""

from __future__ import annotations

import time

import httpx

DEFAULT_URL = "http://127.0.0.1:8080"
VERSION = "0.4.0"
USER_AGENT = f"scalpel-client/{VERSION}"
_CONNECT_SECONDS = 5.0


def timeouts(timeout: float | httpx.Timeout) -> httpx.Timeout:
    """A number of seconds for all but connecting, which takes a moment or fails."""
    if isinstance(timeout, httpx.Timeout):
        return timeout
    return httpx.Timeout(timeout, connect=min(timeout, _CONNECT_SECONDS))


class Deadline:
    """A point in time that waiting may last to."""

    def __init__(self, seconds: float | None) -> None:
        """Args:
        seconds: from now; None never ends.
        """
        self.seconds = seconds
        self._end = time.monotonic() + seconds if seconds is not None else None

    @property
    def left(self) -> float:
        """Seconds, 0 at least."""
        return float("inf") if self._end is None else max(0.0, self._end - time.monotonic())
