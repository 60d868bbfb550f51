"""What was delivered to webhooks, as a history of tries for each webhook and edit.

`deliveries/{tenant}/{webhook}/{bucket}/{edit}/{n:08}.json`. The last record says how far the
deliveries of the edit are, so that whoever goes on after a crash reads one record; two who go on
at once differ by the number.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from ulid import ULID

from app.domain.events.events import Event
from models_store.errors import NotFound
from models_store.ids import bucket_of
from models_store.objects.store import ObjectStore
from models_store.schemas.base import Record

TryOutcome = Literal["delivered", "failed", "given_up", "skipped"]
DeliveryStatus = Literal["delivered", "pending", "failed", "skipped"]
FINAL_EVENTS = frozenset({"edit.succeeded", "edit.failed", "edit.canceled"})
KEPT_SECONDS = 30 * 24 * 3600
"""How long deliveries are listed, from the time of the edit."""
_FOLDER = "deliveries"
_ID = re.compile(r"msg_([0-9A-Z]{26})_([0-9A-Z]{26})_([0-9]{4,8})")
_STATUS: dict[TryOutcome, DeliveryStatus] = {
    "delivered": "delivered",
    "failed": "pending",
    "given_up": "failed",
    "skipped": "skipped",
}


def message_id(webhook_id: str, edit_id: str, event_id: int) -> str:
    """The same for every try, so that a receiver knows what it had before."""
    return f"msg_{webhook_id.rpartition('_')[2]}_{edit_id.rpartition('_')[2]}_{event_id:04}"


class DeliveryProgress(BaseModel):
    """How far the deliveries of one edit to one webhook are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    settled_through: int = 0
    """Every event up to this id was delivered, or given up."""
    finished: bool = False
    """The final one too, whatever its id is: a cancel may overtake an attempt."""
    tries: int = 0
    """Of the next event so far."""
    first_tried_at: float | None = None
    next_try_at: float = 0.0

    def after(self, event: Event) -> DeliveryProgress:
        """With that event settled."""
        assert event.id is not None
        return DeliveryProgress(
            settled_through=max(self.settled_through, event.id),
            finished=self.finished or event.type in FINAL_EVENTS,
        )

    def next_event(self, events: Sequence[Event], wanted: Collection[str]) -> Event | None:
        """What is to be delivered next."""
        return next(
            (event for event in events if event.type in wanted and self.is_open(event)), None
        )

    def is_complete(self, events: Sequence[Event], wanted: Collection[str]) -> bool:
        """Whether nothing is or will be left to deliver."""
        ended = any(event.type in FINAL_EVENTS for event in events)
        return self.finished or (ended and self.next_event(events, wanted) is None)

    def is_open(self, event: Event) -> bool:
        """Whether it is still to be delivered."""
        assert event.id is not None
        if self.finished:
            return False
        return event.type in FINAL_EVENTS or event.id > self.settled_through


class Try(Record):
    """One try at one event, and how far that leaves things."""

    number: int
    event_id: int
    event_type: str
    outcome: TryOutcome
    at: float = Field(default_factory=time.time)
    seconds: float = 0.0
    status_code: int | None = None
    error: str | None = None
    by_hand: bool = False
    progress: DeliveryProgress


@dataclass(frozen=True)
class Delivery:
    """One event to one webhook, with every try at it."""

    webhook_id: str
    edit_id: str
    event_id: int
    tries: tuple[Try, ...] = field(default_factory=tuple)
    next_try_at: float | None = None

    @property
    def id(self) -> str:
        return message_id(self.webhook_id, self.edit_id, self.event_id)

    @property
    def status(self) -> DeliveryStatus:
        return _STATUS[self.tries[-1].outcome]


class Deliveries:
    """The deliveries to every webhook."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def last(self, tenant: str, webhook_id: str, edit_id: str) -> Try | None:
        """The newest record of an edit's history; None before the first try."""
        folder = _folder(tenant, webhook_id, edit_id)
        names = sorted(self._objects.children(folder))
        return self._objects.read_record(f"{folder}/{names[-1]}", Try) if names else None

    def append(self, tenant: str, webhook_id: str, edit_id: str, entry: Try) -> bool:
        """Write a try down; False when somebody else has written that number."""
        path = f"{_folder(tenant, webhook_id, edit_id)}/{entry.number:08}.json"
        return self._objects.create_record(path, entry)

    def walk(
        self, tenant: str, webhook_id: str, *, after: str | None = None, descending: bool = True
    ) -> Iterator[Delivery]:
        """Deliveries that were tried, by edit and event; `after` is an id and need not exist.

        Raises:
            NotFound: `after` cannot be the id of a delivery to this webhook.
        """
        edit = self.edit_of(webhook_id, after) if after is not None else None
        for edit_id in self._edits(tenant, webhook_id, edit, descending):
            deliveries = self._of_edit(tenant, webhook_id, edit_id)
            for delivery in reversed(deliveries) if descending else deliveries:
                if after is None or (delivery.id < after if descending else delivery.id > after):
                    yield delivery

    def get(self, tenant: str, webhook_id: str, id: str) -> Delivery:
        """One delivery.

        Raises:
            NotFound: there is none of that id to this webhook.
        """
        edit_id = self.edit_of(webhook_id, id)
        for delivery in self._of_edit(tenant, webhook_id, edit_id):
            if delivery.id == id:
                return delivery
        raise NotFound(f"no such delivery: {id[:100]}")

    def edit_of(self, webhook_id: str, id: str) -> str:
        """The edit of a delivery.

        Raises:
            NotFound: no delivery to this webhook can have such an id.
        """
        match = _ID.fullmatch(id)
        if match is None or match[1] != webhook_id.rpartition("_")[2]:
            raise NotFound(f"no such delivery: {id[:100]}")
        return f"edit_{match[2]}"

    def webhooks(self) -> Iterator[tuple[str, str]]:
        """Every webhook, as tenant and id, to which anything was delivered."""
        for tenant in self._objects.children(_FOLDER):
            for id in self._objects.children(f"{_FOLDER}/{tenant}"):
                yield tenant, id

    def delivered_since(self, tenant: str, webhook_id: str, since: float, edits: int = 200) -> bool:
        """Whether anything got through after that time, among the newest edits."""
        newest = self._edits(tenant, webhook_id, None, descending=True)
        for _, edit_id in zip(range(edits), newest, strict=False):
            for delivery in self._of_edit(tenant, webhook_id, edit_id):
                if any(
                    entry.outcome == "delivered" and entry.at > since for entry in delivery.tries
                ):
                    return True
        return False

    def delete(self, tenant: str, webhook_id: str, before: float | None = None) -> int:
        """Remove what is older, by the time of the edit; all of it, if no time is given.

        Returns:
            The number of records removed.
        """
        root = f"{_FOLDER}/{tenant}/{webhook_id}"
        limit = str(ULID.from_timestamp(before))[:5] if before is not None else None
        removed = 0
        for bucket in self._objects.children(root):
            if limit is None or bucket < limit:
                for info in self._objects.files(f"{root}/{bucket}"):
                    self._objects.delete(info.path)
                    removed += 1
        return removed

    def _edits(
        self, tenant: str, webhook_id: str, first: str | None, descending: bool
    ) -> Iterator[str]:
        """Edits in order, from that one on."""
        root = f"{_FOLDER}/{tenant}/{webhook_id}"
        return self._objects.ids(root, first, descending=descending)

    def _of_edit(self, tenant: str, webhook_id: str, edit_id: str) -> list[Delivery]:
        """By id of the event."""
        folder = _folder(tenant, webhook_id, edit_id)
        read = (
            self._objects.read_record(f"{folder}/{name}", Try)
            for name in sorted(self._objects.children(folder))
        )
        tries = [entry for entry in read if entry is not None]
        by_event: dict[int, list[Try]] = {}
        for entry in tries:
            by_event.setdefault(entry.event_id, []).append(entry)
        return [
            Delivery(
                webhook_id,
                edit_id,
                event_id,
                tuple(entries),
                tries[-1].progress.next_try_at if entries[-1].outcome == "failed" else None,
            )
            for event_id, entries in sorted(by_event.items())
        ]


def _folder(tenant: str, webhook_id: str, edit_id: str) -> str:
    return f"{_FOLDER}/{tenant}/{webhook_id}/{bucket_of(edit_id)}/{edit_id}"
