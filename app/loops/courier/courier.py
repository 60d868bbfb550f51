"""The courier's loop: deliver the events of edits to webhooks, in order, at least once.

Each API process has one; a lease in Redis decides which leads. With two at once a receiver may get
a message twice, under the same id. All state is in the store, so after a restart or a flush of
Redis only the deliveries under way are repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import TypeVar

import redis
import structlog

from app.domain.events.events import Event, durable_events
from app.domain.webhooks.deliveries import (
    FINAL_EVENTS,
    Deliveries,
    DeliveryProgress,
    Try,
    message_id,
)
from app.domain.webhooks.outgoing import Outgoing
from app.domain.webhooks.sending import Sent, body_of, send
from app.domain.webhooks.tries import skipped, tried
from app.domain.webhooks.webhooks import Webhooks, WebhookVersion
from app.loops.courier.decisions import Channel, choose, interleaved
from models_store.errors import (
    CorruptArtifact,
    NewerRecord,
    NotFound,
    ScalpelError,
    Unavailable,
)
from models_store.live import keys as redis_keys
from models_store.live.leases import TokenLease
from models_store.objects.store import ObjectStore
from models_store.settings import Settings
from models_store.work.outbox import Outbox
from models_store.work.store import Place, WorkStore

_log = structlog.get_logger()

_TURN_SECONDS = 1.0
_LEAST_PAUSE_SECONDS = 0.1
_PAUSE_FACTOR = 4.0
_LEAVING_SECONDS = 3.0
_LEAD_SECONDS = 5.0
_READING_SECONDS = 2.0
"""How long one look may read; the rest is read at the next look."""
_REREAD_SECONDS = 30.0
"""How often an edit without signs of news is read again."""
_WEBHOOK_SECONDS = 2.0
"""How long a webhook is cached."""
_THREADS = 8
_DAY_SECONDS = 24 * 3600
T = TypeVar("T")


@dataclass
class _Edit:
    """An edit with a marker, as this courier remembers it between two looks."""

    marked_at: float
    """Unix seconds."""
    webhooks: tuple[str, ...] = ()
    events: list[Event] = field(default_factory=list)
    read_at: float = float("-inf")
    last: dict[str, Try | None] = field(default_factory=dict)
    """The last record of each webhook's history; without an entry it was not read yet."""
    complete: set[str] = field(default_factory=set)

    @property
    def is_read(self) -> bool:
        """Whether the progress of every webhook is known."""
        return bool(self.webhooks) and self.last.keys() >= {*self.webhooks}

    @property
    def runs(self) -> bool:
        return bool(self.events) and self.events[-1].type == "edit.started"

    @property
    def has_ended(self) -> bool:
        return bool(self.events) and self.events[-1].type in FINAL_EVENTS


class Courier:
    """Delivers the events of edits to webhooks."""

    def __init__(
        self,
        work: WorkStore,
        webhooks: Webhooks,
        outgoing: Outgoing,
        client: redis.Redis,
        settings: Settings,
    ) -> None:
        self._work = work
        self._objects: ObjectStore = work.objects
        self._outbox = Outbox(work.objects)
        self._webhooks = webhooks
        self._deliveries = Deliveries(work.objects)
        self._outgoing = outgoing
        self._client = client
        self._settings = settings
        self._lead = TokenLease(client, redis_keys.COURIER, secrets.token_hex(8), _LEAD_SECONDS)
        self._stopping = threading.Event()
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="courier")
        self._edits: dict[tuple[str, str], _Edit] = {}
        self._cached_webhooks: dict[tuple[str, str], tuple[float, WebhookVersion | None]] = {}
        self._under_way: dict[Channel, asyncio.Task[None]] = {}
        self._failing: set[str] = set()
        self._leads = False

    async def run(self) -> None:
        """Deliver until `stop`."""
        self._loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            self._wake.clear()
            began = time.monotonic()
            for channel in choose(await self._turn(), self._under_way.keys(), self._failing):
                self._under_way[channel] = asyncio.create_task(self._deliver(channel))
            # So that a look at very many edits still takes a small share of the time.
            took = time.monotonic() - began
            least = min(max(_LEAST_PAUSE_SECONDS, _PAUSE_FACTOR * took), _TURN_SECONDS)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _TURN_SECONDS)
            if not self._stopping.is_set():
                await asyncio.sleep(least)
        await self._wait_for_deliveries()
        with contextlib.suppress(redis.RedisError):
            await self._in_thread(self._lead.release)
        self._threads.shutdown(wait=False)

    def stop(self) -> None:
        """End `run` soon; may be called from any thread."""
        self._stopping.set()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake.set)

    async def _wait_for_deliveries(self) -> None:
        """Wait shortly for deliveries under way; those that take longer will be tried again."""
        tasks = list(self._under_way.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_LEAVING_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _turn(self) -> list[Channel]:
        """What is due now, if this courier leads."""
        try:
            return await self._in_thread(self._look)
        except redis.RedisError as error:
            _log.warning("Redis is away; deliveries wait", error=str(error))
        except Unavailable as error:
            _log.warning("the store is away; deliveries wait", error=error.message)
        except Exception:
            _log.exception("a look of the courier broke off")
        return []

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    # In a thread: find what is due.

    def _look(self) -> list[Channel]:
        if not self._take_lead():
            self._edits.clear()
            return []
        began = time.monotonic()
        self._list_markers()
        for key in self._to_read():
            if time.monotonic() > began + _READING_SECONDS:
                break
            try:
                self._read(key)
            except (CorruptArtifact, NewerRecord, NotFound) as error:
                _log.error("a record cannot be read", edit_id=key[1], error=error.message)
        return self._due(time.time())

    def _take_lead(self) -> bool:
        leads = self._lead.renew() == "renewed" or self._lead.take()
        if leads != self._leads:
            _log.info("this courier leads" if leads else "another courier leads")
        self._leads = leads
        return leads

    def _list_markers(self) -> None:
        """Bring what is remembered in line with the markers."""
        markers = self._outbox.all()
        for key in self._edits.keys() - markers.keys():
            del self._edits[key]
        for key in markers.keys() - self._edits.keys():
            self._edits[key] = _Edit(markers[key].modified_at)

    def _to_read(self) -> list[tuple[str, str]]:
        """Edits that may have news: round robin over tenants, the longest unread first."""
        now = time.monotonic()
        leases = self._client.scan_iter(f"{redis_keys.LEASES}*", count=1000)
        running = {key.decode().removeprefix(redis_keys.LEASES) for key in leases}
        open_ = {
            tenant: set(self._objects.children(f"open/{tenant}"))
            for tenant in {tenant for tenant, _ in self._edits}
        }
        by_tenant: dict[str, list[tuple[str, str]]] = {}
        for (tenant, id), edit in self._edits.items():
            moves = id in running or id not in open_[tenant] or edit.runs
            overdue = edit.read_at + _REREAD_SECONDS < now
            if not edit.is_read or (not edit.has_ended and (moves or overdue)):
                by_tenant.setdefault(tenant, []).append((tenant, id))
        for keys in by_tenant.values():
            keys.sort(key=lambda key: self._edits[key].read_at)
        return list(interleaved(by_tenant.values()))

    def _read(self, key: tuple[str, str]) -> None:
        """Read an edit's events, and the progress of each webhook."""
        tenant, id = key
        edit = self._edits[key]
        edit.read_at = time.monotonic()
        if not edit.webhooks:
            marker = self._outbox.read(tenant, id)
            if marker is None:
                return
            edit.webhooks = marker.webhooks
        edit.events = self._events(tenant, id)
        for webhook_id in edit.webhooks:
            if webhook_id not in edit.last:
                edit.last[webhook_id] = self._deliveries.last(tenant, webhook_id, id)

    def _events(self, tenant: str, id: str) -> list[Event]:
        """The events in the records; of a deleted edit, its creation and its end."""
        place = Place("edit", tenant, id)
        try:
            return durable_events(self._work.read("edit", tenant, id))
        except NotFound:
            remains = self._work.remains(place)
            return durable_events(remains) if remains is not None else []

    def _due(self, now: float) -> list[Channel]:
        """Channels with something to deliver; removes the markers of edits that are done."""
        due: list[tuple[float, Channel]] = []
        for (tenant, id), edit in list(self._edits.items()):
            for webhook_id in edit.webhooks:
                channel = Channel(tenant, id, webhook_id)
                if webhook_id in edit.complete or webhook_id not in edit.last:
                    continue
                if channel in self._under_way:
                    continue
                webhook = self._webhook(tenant, webhook_id)
                last = edit.last[webhook_id]
                progress = last.progress if last is not None else DeliveryProgress()
                if webhook is not None and progress.is_complete(edit.events, webhook.events):
                    webhook = self._webhook(tenant, webhook_id, anew=True)
                if webhook is None or progress.is_complete(edit.events, webhook.events):
                    edit.complete.add(webhook_id)
                elif progress.next_event(edit.events, webhook.events) is None:
                    continue
                elif progress.next_try_at <= now or not webhook.enabled:
                    due.append((progress.next_try_at, channel))
            # A marker without an edit: its submission was interrupted and not repeated.
            lost = not edit.events and edit.marked_at < now - _DAY_SECONDS
            if lost or (edit.webhooks and edit.complete >= {*edit.webhooks}):
                self._outbox.remove(tenant, id)
                del self._edits[tenant, id]
        return [channel for _, channel in sorted(due, key=itemgetter(0))]

    def _webhook(self, tenant: str, id: str, *, anew: bool = False) -> WebhookVersion | None:
        """The webhook, perhaps from the cache unless `anew`; None when it is deleted."""
        read_at, webhook = self._cached_webhooks.get((tenant, id), (float("-inf"), None))
        now = time.monotonic()
        if read_at + _WEBHOOK_SECONDS < now or (anew and read_at <= now):
            newest = self._webhooks.newest(tenant, id)
            webhook = None if newest is None or newest.deleted else newest
            # A deletion is final, so it is cached for ever.
            read_at = now if webhook is not None else float("inf")
            self._cached_webhooks[tenant, id] = (read_at, webhook)
        return webhook

    # In the loop: deliver.

    async def _deliver(self, channel: Channel) -> None:
        """Deliver an edit's events to a webhook, one after the other."""
        try:
            while not self._stopping.is_set() and await self._deliver_next(channel):
                pass
        except ScalpelError as error:
            _log.warning("a delivery waits", webhook_id=channel.webhook_id, error=error.message)
        except Exception:
            _log.exception("a delivery broke off", webhook_id=channel.webhook_id)
        finally:
            del self._under_way[channel]
            self._wake.set()

    async def _deliver_next(self, channel: Channel) -> bool:
        """Try the next event; False when there is none, or it must wait."""
        edit = self._edits.get((channel.tenant, channel.edit_id))
        if edit is None or channel.webhook_id not in edit.last:
            return False
        webhook = await self._in_thread(
            partial(self._webhook, channel.tenant, channel.webhook_id, anew=True)
        )
        last = edit.last[channel.webhook_id]
        progress = last.progress if last is not None else DeliveryProgress()
        event = progress.next_event(edit.events, webhook.events if webhook is not None else ())
        if webhook is None or event is None or event.id is None:
            return False
        if not webhook.enabled:
            return await self._record(channel, edit, skipped(last, event, time.time()))
        if progress.next_try_at > time.time():
            return False
        id = message_id(channel.webhook_id, channel.edit_id, event.id)
        body = body_of(event.type, event.created_at, event.model_dump(mode="json"))
        sent = await send(self._outgoing, webhook, id, body)
        record = tried(
            last,
            event,
            sent,
            time.time(),
            most_tries=self._settings.webhook_tries,
            first_pause=self._settings.webhook_retry_seconds,
        )
        if not sent.delivered:
            self._failing.add(channel.webhook_id)
            await self._in_thread(partial(self._disable_if_dead, channel, sent, record, progress))
        else:
            self._failing.discard(channel.webhook_id)
        return await self._record(channel, edit, record) and sent.delivered

    async def _record(self, channel: Channel, edit: _Edit, record: Try) -> bool:
        """Store a try; False when another courier has stored one for this edit meanwhile."""
        place = (channel.tenant, channel.webhook_id, channel.edit_id)
        if await self._in_thread(partial(self._deliveries.append, *place, record)):
            edit.last[channel.webhook_id] = record
            return True
        edit.last[channel.webhook_id] = await self._in_thread(
            partial(self._deliveries.last, *place)
        )
        return False

    def _disable_if_dead(
        self, channel: Channel, sent: Sent, record: Try, before: DeliveryProgress
    ) -> None:
        """Disable a webhook that is gone, or that received nothing during all tries of an event."""
        if sent.gone:
            reason = "the receiver answered 410 Gone"
        elif record.outcome != "given_up":
            return
        else:
            since = before.first_tried_at or record.at
            if self._deliveries.delivered_since(channel.tenant, channel.webhook_id, since):
                return
            reason = (
                f"{before.tries + 1} tries to deliver an event failed and nothing else went "
                f"through meanwhile; the last: {sent.error}"
            )
        if self._webhooks.disable(channel.tenant, channel.webhook_id, reason) is not None:
            _log.warning("disabled a webhook", webhook_id=channel.webhook_id, reason=reason)
