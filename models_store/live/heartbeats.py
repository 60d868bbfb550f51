"""Heartbeats of editors and generators in Redis, signed with the internal token.

Whoever can write to Redis could otherwise name an address of their own as a generator, and would be
sent the prompts of tenants.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import queue
import secrets
import threading
from collections.abc import Callable, Mapping
from typing import Any, Literal, Self, TypeVar, cast

import redis
import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from models_store.live import keys as redis_keys
from models_store.live.leases import TIMEOUT_SECONDS
from models_store.settings import Settings

HEARTBEAT_SECONDS = 2.0
HEARTBEAT_LIFE_SECONDS = 6
_log = structlog.get_logger()
_refused: set[str] = set()
"""Keys of heartbeats that were logged as not ours, the first of them."""
_MOST_REFUSED = 100
B = TypeVar("B", bound=BaseModel)


def internal_token(settings: Settings) -> str:
    """What API, editors and generators share: from the settings, or as `scalpel up` keeps it in the
    data folder; empty if there is none."""
    if settings.internal_token:
        return settings.internal_token
    with contextlib.suppress(OSError):
        return settings.internal_token_file.read_text(encoding="utf-8").strip()
    return ""


def make_internal_token(settings: Settings) -> str:
    """The internal token; one is made and kept if there is none."""
    if not internal_token(settings):
        settings.data.mkdir(parents=True, exist_ok=True)
        settings.internal_token_file.touch(mode=0o600)
        settings.internal_token_file.write_text(secrets.token_urlsafe(32), encoding="utf-8")
    return internal_token(settings)


def signed(token: str, key: str, value: bytes) -> bytes:
    """A heartbeat as it is kept under `key`: its HMAC-SHA256 in hexadecimal, a space, the value."""
    digest = hmac.digest(token.encode(), key.encode() + b"\n" + value, "sha256")
    return digest.hex().encode() + b" " + value


def beats(client: redis.Redis, prefix: str, token: str, kind: type[B]) -> list[B]:
    """All heartbeats under `prefix`, by name, but those that are not signed with the token."""
    names = client.scan_iter(f"{prefix}*", count=1000)
    keys = sorted(cast(bytes, name).decode(errors="replace") for name in names)
    found = []
    for key, kept in zip(keys, cast(list[Any], client.mget(keys)) if keys else (), strict=True):
        value = (kept or b"").partition(b" ")[2]
        if kept and not hmac.compare_digest(kept, signed(token, key, value)):
            if key not in _refused and len(_refused) < _MOST_REFUSED:
                _log.warning("a heartbeat has another internal token and is ignored", key=key)
                _refused.add(key)
            continue
        # It may be gone since it was listed, or be of another version.
        with contextlib.suppress(ValidationError):
            found.append(kind.model_validate_json(value))
    return found


class Editor(BaseModel):
    """An editor's heartbeat."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    pool: str
    host: str
    pid: int
    state: Literal["idle", "busy"] = "idle"
    work_id: str | None = None
    at: float
    """Unix seconds."""


def editors_seen(client: redis.Redis, token: str) -> list[Editor]:
    """The editors that are alive and take work."""
    return beats(client, redis_keys.EDITORS, token, Editor)


class Heartbeat:
    """A context in which a thread writes `describe()`, signed, under `key` every two seconds."""

    def __init__(
        self,
        client: redis.Redis,
        key: str,
        token: str,
        describe: Callable[[], Mapping[str, Any]],
        seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._client = client
        self._key = key
        self._token = token
        self._describe = describe
        self._seconds = seconds
        self._changed: queue.SimpleQueue[None] = queue.SimpleQueue()
        """Not an Event: signal handlers call `beat` and `stop`, and one that interrupts its thread
        while that sets an Event would wait for ever for the lock that the thread holds."""
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Stop, and delete the heartbeat, so that nothing more is sent to this process."""
        self.stop()
        self._thread.join(2 * TIMEOUT_SECONDS)

    def beat(self) -> None:
        """Write now, since something changed."""
        self._changed.put(None)

    def stop(self) -> None:
        self._stopped = True
        self._changed.put(None)

    def _run(self) -> None:
        # While Redis is away nobody can read it either, and the next beat comes soon.
        while not self._stopped:
            value = signed(self._token, self._key, json.dumps(self._describe()).encode())
            with contextlib.suppress(redis.RedisError):
                self._client.set(self._key, value, ex=HEARTBEAT_LIFE_SECONDS)
            with contextlib.suppress(queue.Empty):
                self._changed.get(timeout=self._seconds)
                while True:  # one write covers all changes
                    self._changed.get_nowait()
        with contextlib.suppress(redis.RedisError):
            self._client.delete(self._key)
