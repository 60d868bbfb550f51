"""API keys as they were a few seconds ago at most, so that a revocation takes effect soon."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TypeVar

from fastapi import Request

from app.domain.accounts.api_keys import ApiKey, ApiKeys, KeyState, digest_of

REMEMBERED_SECONDS = 3.0
_NOTED_SECONDS = 300.0
"""How long after an attempt to write down a key's use, no other is made."""
_CAPACITY = 10_000
T = TypeVar("T")


class KeyCache:
    """What an API process knows of keys: by the digests of their secrets, never by secrets."""

    def __init__(self, seconds: float = REMEMBERED_SECONDS) -> None:
        self._seconds = seconds
        self._valid: OrderedDict[str, tuple[float, KeyState | None]] = OrderedDict()
        self._wrong: OrderedDict[str, tuple[float, KeyState | None]] = OrderedDict()
        """Of their own, so that guesses push out no key that is in use."""
        self._noted: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, keys: ApiKeys, secret: str) -> ApiKey | None:
        """The key of that secret, if it is accepted."""
        return self.find_digest(keys, digest_of(secret))

    def find_digest(self, keys: ApiKeys, digest: str) -> ApiKey | None:
        """The key whose secret has that SHA-256, if it is accepted."""
        now = time.monotonic()
        with self._lock:
            known = self._valid.get(digest) or self._wrong.get(digest)
        if known is not None and now < known[0] + self._seconds:
            state = known[1]
        else:
            state = keys.find_digest(digest)
            with self._lock:
                self._valid.pop(digest, None)
                _put(self._wrong if state is None else self._valid, digest, (now, state))
        if state is None or state.status != "active":
            return None
        self._note_use(keys, state, now)
        return state.key

    def clear(self) -> None:
        """Read every key anew: one was changed."""
        with self._lock:
            self._valid.clear()
            self._wrong.clear()

    def _note_use(self, keys: ApiKeys, state: KeyState, now: float) -> None:
        """On the side: a store that cannot be written to keeps nobody out, and nobody waiting."""
        with self._lock:
            if now < self._noted.get(state.digest, -_NOTED_SECONDS) + _NOTED_SECONDS:
                return
            _put(self._noted, state.digest, now)
        threading.Thread(target=keys.note_use, args=(state,), daemon=True).start()


def key_cache(request: Request) -> KeyCache:
    """That of the application."""
    cache = request.app.state.keys
    assert isinstance(cache, KeyCache)
    return cache


def _put(cache: OrderedDict[str, T], name: str, value: T) -> None:
    cache[name] = value
    cache.move_to_end(name)
    while len(cache) > _CAPACITY:
        cache.popitem(last=False)
