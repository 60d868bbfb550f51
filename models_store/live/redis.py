"""The address of Redis: from the settings, or of the server that `scalpel up` started."""

from __future__ import annotations

from models_store.errors import Unavailable
from models_store.settings import Settings


def redis_url(settings: Settings) -> str:
    """The address of Redis.

    Raises:
        Unavailable: none is set, and no `scalpel up` runs on the data folder.
    """
    if settings.redis_url:
        return settings.redis_url
    note = settings.embedded_redis_dir / "url"
    try:
        return note.read_text(encoding="utf-8").strip()
    except OSError:
        raise Unavailable(
            "no Redis: set SCALPEL_REDIS_URL, or start `scalpel up` with the same SCALPEL_DATA "
            f"({settings.data}), which brings one",
            code="overloaded",
        ) from None
