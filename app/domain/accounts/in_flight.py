"""What a tenant may have under way at a time in one API process."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from threading import Lock
from typing import Literal

from models_store.errors import LimitUse, QuotaExceeded
from models_store.settings import Settings

Kind = Literal[
    "body-bytes",
    "streams",
    "waits",
    "estimates",
    "drafts",
    "canaries",
    "scores",
    "downloads",
    "imports",
    "uploads",
]
_RETRY_SECONDS = 1
_WORDS: dict[Kind, str] = {
    "body-bytes": "bytes of request bodies",
    "streams": "event streams",
    "waits": "requests that wait",
    "estimates": "estimates",
    "drafts": "drafts",
    "canaries": "checks of servers",
    "downloads": "downloads",
    "imports": "imports",
    "uploads": "uploads of files",
    "scores": "log-probabilities of echoed prompts",
}


class InFlight:
    """Counts what is under way, by tenant; safe to use from several threads."""

    def __init__(self, settings: Settings) -> None:
        self._most: dict[Kind, int] = {
            # Parsed, a body takes several times its bytes.
            "body-bytes": settings.max_body_bytes,
            "streams": 128,
            "waits": 128,
            "estimates": 2,
            "drafts": 2,
            "canaries": 2,
            "downloads": 8,
            "imports": 2,
            "uploads": 4,
            # Twice as many as one response may have.
            "scores": 2**19,
        }
        self._held: Counter[tuple[str, Kind]] = Counter()
        self._lock = Lock()

    @contextlib.contextmanager
    def hold(self, tenant: str, kind: Kind, amount: int = 1) -> Iterator[None]:
        """Hold so much of what the tenant may have, inside.

        Raises:
            QuotaExceeded: `rate_limited`, it would be too much together with what is under way.
        """
        key, most = (tenant, kind), self._most[kind]
        with self._lock:
            held = self._held[key]
            if held and held + amount > most:
                raise QuotaExceeded(
                    f"{held:,} {_WORDS[kind]} of yours are under way, and at most {most:,} may be "
                    "at a time: wait until some are done",
                    code="rate_limited",
                    retry_after=_RETRY_SECONDS,
                    use=LimitUse(f"concurrent-{kind}", most, max(0, most - held)),
                )
            self._held[key] += amount
        try:
            yield
        finally:
            with self._lock:
                self._held[key] -= amount
                if not self._held[key]:
                    del self._held[key]
