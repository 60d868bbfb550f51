"""API keys as they were a few seconds ago at most, so that a revocation takes effect soon."""

from __future__ import annotations

import threading
import time

from cachetools import LRUCache, TTLCache
from fastapi import Request

from app.domain.accounts.api_keys import ApiKey, ApiKeys, KeyState, digest_of

REMEMBERED_SECONDS = 3.0
_NOTED_SECONDS = 300.0
"""How long after an attempt to write down a key's use, no other is made."""
CAPACITY = 10_000


class KeyCache:
    """What an API process knows of keys: by the digests of their secrets, never by secrets."""

    def __init__(self, seconds: float = REMEMBERED_SECONDS, capacity: int = CAPACITY) -> None:
        self._seconds = seconds
        self._valid: LRUCache[str, tuple[float, KeyState | None]] = LRUCache(capacity)
        self._wrong: LRUCache[str, tuple[float, KeyState | None]] = LRUCache(capacity)
        """Apart, so that guesses push out no key that is in use."""
        self._noted: TTLCache[str, bool] = TTLCache(capacity, _NOTED_SECONDS)
        self._lock = threading.Lock()

    def fresh(self, secret: str) -> ApiKey | None:
        """The key of that secret, if it was accepted a moment ago; reads nothing."""
        digest = digest_of(secret)
        with self._lock:
            read_at, state = self._valid.get(digest, (0.0, None))
            noted = digest in self._noted
        if state is None or state.status != "active" or not noted:
            return None
        return state.key if time.monotonic() < read_at + self._seconds else None

    def knows(self, secret: str) -> bool:
        """Whether there is such a key, as far as was read, however long ago."""
        with self._lock:
            return digest_of(secret) in self._valid

    def find(self, keys: ApiKeys, secret: str) -> ApiKey | None:
        """The key of that secret, if it is accepted."""
        return self.find_digest(keys, digest_of(secret))

    def find_digest(self, keys: ApiKeys, digest: str) -> ApiKey | None:
        """The key whose secret has that SHA-256, if it is accepted."""
        now = time.monotonic()
        with self._lock:
            entry = self._valid.get(digest) or self._wrong.get(digest)
        if entry is not None and now < entry[0] + self._seconds:
            state = entry[1]
        else:
            state = keys.find_digest(digest)
            with self._lock:
                self._valid.pop(digest, None)
                (self._wrong if state is None else self._valid)[digest] = (now, state)
        if state is None or state.status != "active":
            return None
        self._note_use(keys, state)
        return state.key

    def clear(self) -> None:
        """Read every key anew: one was changed."""
        with self._lock:
            self._valid.clear()
            self._wrong.clear()

    def _note_use(self, keys: ApiKeys, state: KeyState) -> None:
        """On the side: a store that cannot be written to keeps nobody out, and nobody waiting."""
        with self._lock:
            if state.digest in self._noted:
                return
            self._noted[state.digest] = True
        threading.Thread(target=keys.note_use, args=(state,), daemon=True).start()


def key_cache(request: Request) -> KeyCache:
    """That of the application."""
    cache = request.app.state.keys
    assert isinstance(cache, KeyCache)
    return cache
