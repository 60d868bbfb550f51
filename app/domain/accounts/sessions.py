"""Sign-ins of browsers: a random cookie stands for a key, for some hours.

`sessions/{sha256 of the cookie}.json` is there until the session is ended or swept. It has the
digest of the key's secret, so a session is worth no more than its key is.
"""

from __future__ import annotations

import hashlib
import secrets
import time

from pydantic import Field

from app.domain.accounts.api_keys import ApiKey
from models_store.audit.log import AuditLog
from models_store.objects.store import ObjectStore
from models_store.schemas.base import Record

SESSION_SECONDS = 12 * 3600
_FOLDER = "sessions"


class Session(Record):
    """A sign-in."""

    key_sha256: str
    """Of the secret."""
    created_at: int = Field(default_factory=lambda: int(time.time()))


class Sessions:
    """Every sign-in there is, whichever process it was made in."""

    def __init__(self, objects: ObjectStore, audit: AuditLog) -> None:
        self._objects = objects
        self._audit = audit

    def begin(self, key: ApiKey, key_sha256: str) -> str:
        """Sign in with the key, whose secret has that digest: the cookie, 256 random bits."""
        self._audit.append("session.begun", tenant=key.tenant, actor=key.actor)
        cookie = secrets.token_urlsafe(32)
        self._objects.create_record(_path(cookie), Session(key_sha256=key_sha256))
        return cookie

    def find(self, cookie: str) -> Session | None:
        """The session of that cookie; None where there is none, or it is over."""
        session = self._objects.read_record(_path(cookie), Session)
        over = session is None or time.time() > session.created_at + SESSION_SECONDS
        return None if over else session

    def end(self, cookie: str, key: ApiKey | None) -> None:
        """Sign out; ending what has ended is fine.

        Args:
            key: the one signed in with; None where it is no longer accepted.
        """
        if key is not None:
            self._audit.append("session.ended", tenant=key.tenant, actor=key.actor)
        self._objects.delete(_path(cookie))


def remove_old_sessions(objects: ObjectStore, now: float) -> int:
    """Remove the records of sessions that were over by `now` (Unix seconds): how many."""
    old = [info.path for info in objects.files(_FOLDER) if info.modified_at < now - SESSION_SECONDS]
    for path in old:
        objects.delete(path)
    return len(old)


def _path(cookie: str) -> str:
    return f"{_FOLDER}/{hashlib.sha256(cookie.encode()).hexdigest()}.json"
