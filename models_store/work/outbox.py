"""Edits whose events may still have to be delivered to webhooks: `outbox/{tenant}/{edit_id}`.

Put before the edit is written down, so that no crash can lose an event, and removed when every
webhook was told of the edit's end.
"""

from __future__ import annotations

from models_store.objects.store import ObjectInfo, ObjectStore
from models_store.schemas.base import Record

WEBHOOKS = "webhooks"
_FOLDER = "outbox"


class OutboxMarker(Record):
    """Who is to be told: the webhooks that there were when the edit was put in."""

    webhooks: tuple[str, ...]


class Outbox:
    """The markers of every tenant."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def put(self, tenant: str, edit_id: str) -> None:
        """Note an edit for the tenant's webhooks, if it has any; noting it again is fine."""
        webhooks = tuple(self._objects.children(f"{WEBHOOKS}/{tenant}"))
        if webhooks:
            self._objects.create_record(_path(tenant, edit_id), OutboxMarker(webhooks=webhooks))

    def read(self, tenant: str, edit_id: str) -> OutboxMarker | None:
        return self._objects.read_record(_path(tenant, edit_id), OutboxMarker)

    def remove(self, tenant: str, edit_id: str) -> None:
        self._objects.delete(_path(tenant, edit_id))

    def all(self) -> dict[tuple[str, str], ObjectInfo]:
        """Every marker by tenant and edit, oldest edit first within a tenant."""
        found = {}
        for info in self._objects.files(_FOLDER):
            _, tenant, edit_id = info.path.split("/", 2)
            found[tenant, edit_id] = info
        return found


def _path(tenant: str, edit_id: str) -> str:
    return f"{_FOLDER}/{tenant}/{edit_id}"
