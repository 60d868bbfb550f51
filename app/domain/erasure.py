"""Removing all that a tenant has: `scalpel tenants erase`.

What stays is the audit log, which has ids, names and checksums and no texts, and a line in it that
says what was removed.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter

import redis
from pydantic import JsonValue

from app.domain.accounts.api_keys import ApiKeys
from app.domain.accounts.sessions import Session
from models_store.audit.log import NOBODY
from models_store.errors import Conflict, InvalidRequest, NotFound
from models_store.ids import TENANT_PATTERN
from models_store.live import keys as redis_keys
from models_store.objects.store import ObjectStore
from models_store.work.store import FOLDERS, SHARED_TENANT, WorkStore

REVOKED_SECONDS = 5.0
_PATIENCE_SECONDS = 30.0
"""For the processes of attempts to end."""
CACHES = ("cache/generations", "cache/statistics")
"""What was computed for a tenant's edits, and can be computed again."""
_FOLDERS = (
    *FOLDERS.values(),
    "open",
    "outbox",
    "behaviors",
    "files",
    "aliases",
    "suffixes",
    "webhooks",
    "deliveries",
    "idempotency",
    "tested",
    *CACHES,
    *(
        f"quarantine/{folder}"
        for folder in (*FOLDERS.values(), "behaviors", "files", "idempotency")
    ),
)
"""With a folder for each tenant."""


def erase_tenant(
    work: WorkStore,
    keys: ApiKeys,
    client: redis.Redis,
    tenant: str,
    *,
    grace: float = REVOKED_SECONDS,
) -> Counter[str]:
    """Revoke the keys of a tenant, end its work, and remove all that it has.

    Args:
        grace: seconds to wait after the keys are gone: API processes may accept them so long.

    Returns:
        How many objects of each folder were removed, and how many entries of Redis.

    Raises:
        InvalidRequest: that cannot be a tenant of its own.
        Conflict: `changed_meanwhile`, an attempt does not end; try again.
        Unavailable: the store is away.
        redis.RedisError: Redis is away.
    """
    if not TENANT_PATTERN.fullmatch(tenant) or tenant == SHARED_TENANT:
        raise InvalidRequest(f"{tenant!r} is no tenant")
    removed = Counter({"api_keys": _remove_keys(work.objects, keys, tenant)})
    time.sleep(grace)  # until every API process has forgotten the keys
    _end_work(work, client, tenant)
    removed["redis"] = _forget(client, _ids(work, tenant), tenant)
    for folder in _FOLDERS:
        # Again until nothing is left: a process that has just ended some work adds its summary.
        while paths := work.objects.paths(f"{folder}/{tenant}"):
            for path in paths:
                work.objects.delete(path)
                removed[folder] += 1
    counts: dict[str, JsonValue] = {folder: count for folder, count in removed.items() if count}
    work.audit.append("tenant.erased", tenant=tenant, actor=NOBODY, removed=counts)
    return +removed


def _remove_keys(objects: ObjectStore, keys: ApiKeys, tenant: str) -> int:
    """Remove its keys, which are then accepted no longer, and the sign-ins with them."""
    digests = {state.digest for state in keys.all() if state.key.tenant == tenant}
    paths = [path for digest in digests for path in objects.paths(f"api_keys/{digest}")]
    sessions = objects.each_readable(
        objects.paths("sessions"), lambda path: objects.read_record(path, Session)
    )
    paths += [path for path, session in sessions if session.key_sha256 in digests]
    for path in paths:
        objects.delete(path)
    return len(paths)


def _end_work(work: WorkStore, client: redis.Redis, tenant: str) -> None:
    """Cancel what has not ended, and wait until no process works on it."""
    for place in list(work.open_work()):
        if place.tenant == tenant:
            # Without a request it was interrupted while it was submitted.
            with contextlib.suppress(NotFound):
                work.delete(place.kind, tenant, place.id)
            work.objects.delete(place.marker)
    leases = [redis_keys.lease(id) for id in _ids(work, tenant)]
    limit = time.monotonic() + _PATIENCE_SECONDS
    while leases and client.exists(*leases):
        if time.monotonic() > limit:
            raise Conflict(
                "an attempt at work of this tenant does not end: try again in a minute",
                code="changed_meanwhile",
            )
        time.sleep(0.2)


def _ids(work: WorkStore, tenant: str) -> list[str]:
    return [
        id
        for folder in FOLDERS.values()
        for bucket in work.objects.children(f"{folder}/{tenant}")
        for id in work.objects.children(f"{folder}/{tenant}/{bucket}")
    ]


def _forget(client: redis.Redis, ids: list[str], tenant: str) -> int:
    names = [redis_keys.bucket(of, tenant) for of in ("requests", "tokens")]
    for id in ids:
        names += [
            redis_keys.progress(id),
            redis_keys.events(id),
            redis_keys.last_job(id),
            redis_keys.death(id),
            redis_keys.lease(id),
        ]
    return sum(int(client.delete(*names[at : at + 500])) for at in range(0, len(names), 500))
