"""Edits with events that webhooks may not have received yet: `outbox/{tenant}/{edit_id}`.

A marker is created before the edit, so that no crash can lose an event, and removed when every
webhook has received the edit's last event.
"""

from __future__ import annotations

from models_store.objects.store import ObjectInfo, ObjectStore
from models_store.schemas.base import Record

WEBHOOKS = "webhooks"
_FOLDER = "outbox"


class OutboxMarker(Record):
    """The webhooks that receive the edit's events: those that existed when it was submitted."""

    webhooks: tuple[str, ...]


class Outbox:
    """The markers of every tenant."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def put(self, tenant: str, edit_id: str) -> None:
        """Create the marker of an edit, if the tenant has webhooks; idempotent."""
        webhooks = tuple(self._objects.children(f"{WEBHOOKS}/{tenant}"))
        if webhooks:
            self._objects.create_record(_path(tenant, edit_id), OutboxMarker(webhooks=webhooks))

    def read(self, tenant: str, edit_id: str) -> OutboxMarker | None:
        return self._objects.read_record(_path(tenant, edit_id), OutboxMarker)

    def remove(self, tenant: str, edit_id: str) -> None:
        self._objects.delete(_path(tenant, edit_id))

    def all(self) -> dict[tuple[str, str], ObjectInfo]:
        """Every marker by tenant and edit, oldest edit first within a tenant."""
        markers = {}
        for info in self._objects.files(_FOLDER):
            _, tenant, edit_id = info.path.split("/", 2)
            markers[tenant, edit_id] = info
        return markers


def _path(tenant: str, edit_id: str) -> str:
    return f"{_FOLDER}/{tenant}/{edit_id}"
