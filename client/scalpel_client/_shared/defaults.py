"""What holds where nothing else is said."""

from __future__ import annotations

import time

import httpx

DEFAULT_URL = "http://127.0.0.1:8080"
VERSION = "0.4.0"
USER_AGENT = f"scalpel-client/{VERSION}"
_CONNECT_SECONDS = 5.0


def checked_key(key: str | None) -> str | None:
    """The key without white space around it, as files of secrets end with; None without one.

    Raises:
        ValueError: a header cannot carry it. The key itself is not in the message.
    """
    stripped = (key or "").strip()
    if not all("!" <= character <= "~" for character in stripped):
        raise ValueError("the API key may have printable ASCII characters alone, and no spaces")
    return stripped or None


def timeouts(timeout: float | httpx.Timeout) -> httpx.Timeout:
    """A number of seconds for all but connecting, which takes a moment or fails."""
    if isinstance(timeout, httpx.Timeout):
        return timeout
    return httpx.Timeout(timeout, connect=min(timeout, _CONNECT_SECONDS))


def reading_within(timeout: httpx.Timeout, seconds: float) -> httpx.Timeout:
    """The same, but where nothing may come for so many seconds at most."""
    if timeout.read is not None:
        seconds = min(timeout.read, seconds)
    read = None if seconds == float("inf") else seconds
    return httpx.Timeout(connect=timeout.connect, read=read, write=timeout.write, pool=timeout.pool)


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
