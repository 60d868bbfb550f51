"""`scalpel recover`: the keeper's work, once, by hand."""

from __future__ import annotations

import time

from app.loops.keeper.keeper import Keeper
from models_store.live.leases import connect
from models_store.objects.store import open_store
from models_store.settings import Settings

_PAUSE_SECONDS = 1.0


def recover_once(settings: Settings) -> str:
    """Look at all open work until nothing is undecided; returns what was done, in one line.

    An attempt without a lease is watched for the length of a lease, so this may take that long.

    Raises:
        Unavailable: the store or Redis is away.
        redis.RedisError: Redis is away.
    """
    keeper = Keeper(open_store(settings), connect(settings), settings)
    limit = time.monotonic() + 2 * settings.lease_seconds
    keeper.look(alone=True)
    while keeper.undecided and time.monotonic() < limit:
        time.sleep(_PAUSE_SECONDS)
        keeper.look(alone=True)
    done = ", ".join(f"{count} {what}" for what, count in sorted(keeper.done.items()))
    return f"{keeper.open_count} open; {done or 'nothing had to be done'}"
