"""Retry while the store is unavailable."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from models_store.errors import Unavailable

_log = structlog.get_logger()
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0
T = TypeVar("T")


def patiently(action: Callable[[], T], seconds: float) -> T:
    """What `action` returns, tried again with growing pauses while the store is unavailable.

    Args:
        seconds: how long to go on trying.

    Raises:
        Unavailable: it still was, at the end.
    """
    limit = time.monotonic() + seconds
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            return action()
        except Unavailable as error:
            if time.monotonic() + pause > limit:
                raise
            _log.warning("the store is away, trying again", error=error.message, pause=pause)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
