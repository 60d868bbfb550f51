"""The courier's loop: tell webhooks of the events of edits, in order, at least once.

Each API process has one; a lease in Redis picks the one that leads. Two at once would do no harm:
a receiver may get a message twice, under the same id. Everything it goes by is in the store, so a
restart or a flushed Redis costs nothing but a repeat of what was under way.
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
from typing import TypeVar

import redis
import structlog

from app.domain.events.events import Event, durable_events
from app.domain.webhooks.deliveries import FINAL_EVENTS, Deliveries, Progress, Try, message_id
from app.domain.webhooks.outgoing import Outgoing
from app.domain.webhooks.webhooks import Webhooks, WebhookVersion
from app.loops.courier.decisions import Pair, choose, interleaved, skipped, tried
from app.loops.courier.sending import Sent, body_of, send
from models_store.audit.log import NOBODY
from models_store.errors import CorruptArtifact, NotFound, ScalpelError, Unavailable
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
"""How long one look may read; what is left over has its turn at the next."""
_REREAD_SECONDS = 30.0
"""How often an edit that nothing points to is read again."""
_WEBHOOK_SECONDS = 2.0
"""How long a webhook is taken to be as it was read."""
_THREADS = 8
_DAY_SECONDS = 24 * 3600
T = TypeVar("T")


@dataclass
class _Edit:
    """An edit with a marker as this courier remembers it between two looks."""

    marked_at: float
    """Unix seconds."""
    webhooks: tuple[str, ...] = ()
    events: list[Event] = field(default_factory=list)
    read_at: float = float("-inf")
    last: dict[str, Try | None] = field(default_factory=dict)
    """The last record of each webhook's history; an id that is missing was not read yet."""
    complete: set[str] = field(default_factory=set)

    @property
    def is_read(self) -> bool:
        """Whether it is known how far every webhook is."""
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
        self._known: dict[tuple[str, str], tuple[float, WebhookVersion | None]] = {}
        self._under_way: dict[Pair, asyncio.Task[None]] = {}
        self._failing: set[str] = set()
        self._leads = False

    async def run(self) -> None:
        """Deliver until `stop`."""
        self._loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            self._wake.clear()
            began = time.monotonic()
            for pair in choose(await self._turn(), self._under_way.keys(), self._failing):
                self._under_way[pair] = asyncio.create_task(self._deliver(pair))
            # However much there is to look at, looking takes a small share of the time.
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
        """A moment for what is under way; what takes longer will be tried again."""
        tasks = list(self._under_way.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_LEAVING_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _turn(self) -> list[Pair]:
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

    # In a thread: what is due.

    def _look(self) -> list[Pair]:
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
            except (CorruptArtifact, NotFound) as error:
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
        found = self._outbox.all()
        for key in self._edits.keys() - found.keys():
            del self._edits[key]
        for key in found.keys() - self._edits.keys():
            self._edits[key] = _Edit(found[key].modified_at)

    def _to_read(self) -> list[tuple[str, str]]:
        """Edits of which there may be news, in turns over tenants, the longest unread first."""
        now = time.monotonic()
        leases = self._client.scan_iter(f"{redis_keys.LEASES}*", count=1000)
        running = {key.decode().removeprefix(redis_keys.LEASES) for key in leases}
        open_ = {
            tenant: set(self._objects.children(f"open/{tenant}"))
            for tenant in {tenant for tenant, _ in self._edits}
        }
        found: dict[str, list[tuple[str, str]]] = {}
        for (tenant, id), edit in self._edits.items():
            moves = id in running or id not in open_[tenant] or edit.runs
            overdue = edit.read_at + _REREAD_SECONDS < now
            if not edit.is_read or (not edit.has_ended and (moves or overdue)):
                found.setdefault(tenant, []).append((tenant, id))
        for keys in found.values():
            keys.sort(key=lambda key: self._edits[key].read_at)
        return list(interleaved(found.values()))

    def _read(self, key: tuple[str, str]) -> None:
        """Read an edit's events, and how far each webhook is with them."""
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
        """What the records tell; of a deleted edit, that it was created and how it ended."""
        place = Place("edit", tenant, id)
        try:
            return durable_events(self._work.read("edit", tenant, id))
        except NotFound:
            remains = self._work.remains(place)
            return durable_events(remains) if remains is not None else []

    def _due(self, now: float) -> list[Pair]:
        """Pairs with something to deliver; markers of edits that are told of go."""
        due: list[tuple[float, Pair]] = []
        for (tenant, id), edit in list(self._edits.items()):
            for webhook_id in edit.webhooks:
                pair = Pair(tenant, id, webhook_id)
                if webhook_id in edit.complete or webhook_id not in edit.last:
                    continue
                if pair in self._under_way:
                    continue
                webhook = self._webhook(tenant, webhook_id)
                last = edit.last[webhook_id]
                progress = last.progress if last is not None else Progress()
                if webhook is not None and progress.is_complete(edit.events, webhook.events):
                    webhook = self._webhook(tenant, webhook_id, anew=True)
                if webhook is None or progress.is_complete(edit.events, webhook.events):
                    edit.complete.add(webhook_id)
                elif progress.next_event(edit.events, webhook.events) is None:
                    continue
                elif progress.next_try_at <= now or not webhook.enabled:
                    due.append((progress.next_try_at, pair))
            # A marker without an edit: its request was cut short, and never sent again.
            lost = not edit.events and edit.marked_at < now - _DAY_SECONDS
            if lost or (edit.webhooks and edit.complete >= {*edit.webhooks}):
                self._outbox.remove(tenant, id)
                del self._edits[tenant, id]
        return [pair for _, pair in sorted(due, key=lambda one: one[0])]

    def _webhook(self, tenant: str, id: str, *, anew: bool = False) -> WebhookVersion | None:
        """The webhook as it was a moment ago, or as it is now; None when it is deleted."""
        read_at, known = self._known.get((tenant, id), (float("-inf"), None))
        now = time.monotonic()
        if read_at + _WEBHOOK_SECONDS < now or (anew and read_at <= now):
            newest = self._webhooks.newest(tenant, id)
            known = None if newest is None or newest.deleted else newest
            # Deleted is deleted.
            self._known[tenant, id] = (now if known is not None else float("inf"), known)
        return known

    # In the loop: deliver.

    async def _deliver(self, pair: Pair) -> None:
        """Deliver what an edit has for a webhook, one event after the other."""
        try:
            while not self._stopping.is_set() and await self._deliver_next(pair):
                pass
        except ScalpelError as error:
            _log.warning("a delivery waits", webhook_id=pair.webhook_id, error=error.message)
        except Exception:
            _log.exception("a delivery broke off", webhook_id=pair.webhook_id)
        finally:
            del self._under_way[pair]
            self._wake.set()

    async def _deliver_next(self, pair: Pair) -> bool:
        """Try the next event; False when there is none, or it has to wait."""
        edit = self._edits.get((pair.tenant, pair.edit_id))
        if edit is None or pair.webhook_id not in edit.last:
            return False
        webhook = await self._in_thread(
            partial(self._webhook, pair.tenant, pair.webhook_id, anew=True)
        )
        last = edit.last[pair.webhook_id]
        progress = last.progress if last is not None else Progress()
        event = progress.next_event(edit.events, webhook.events if webhook is not None else ())
        if webhook is None or event is None or event.id is None:
            return False
        if not webhook.enabled:
            return await self._record(pair, edit, skipped(last, event, time.time()))
        if progress.next_try_at > time.time():
            return False
        id = message_id(pair.webhook_id, pair.edit_id, event.id)
        body = body_of(event.type, event.created_at, event.model_dump(mode="json"))
        sent = await send(self._outgoing, webhook, id, body)
        one = tried(
            last,
            event,
            sent,
            time.time(),
            most_tries=self._settings.webhook_tries,
            first_pause=self._settings.webhook_retry_seconds,
        )
        if not sent.delivered:
            self._failing.add(pair.webhook_id)
            await self._in_thread(partial(self._disable_if_dead, pair, sent, one, progress))
        else:
            self._failing.discard(pair.webhook_id)
        return await self._record(pair, edit, one) and sent.delivered

    async def _record(self, pair: Pair, edit: _Edit, one: Try) -> bool:
        """Write a try down; False when another has gone on with this edit meanwhile."""
        place = (pair.tenant, pair.webhook_id, pair.edit_id)
        if await self._in_thread(partial(self._deliveries.append, *place, one)):
            edit.last[pair.webhook_id] = one
            return True
        edit.last[pair.webhook_id] = await self._in_thread(partial(self._deliveries.last, *place))
        return False

    def _disable_if_dead(self, pair: Pair, sent: Sent, one: Try, before: Progress) -> None:
        """Disable a webhook that is gone, or that took nothing in all tries of an event."""
        if sent.gone:
            reason = "the receiver answered 410 Gone"
        elif one.outcome != "given_up":
            return
        else:
            since = before.first_tried_at or one.at
            if self._deliveries.delivered_since(pair.tenant, pair.webhook_id, since):
                return
            reason = (
                f"{before.tries + 1} tries to deliver an event failed and nothing else went "
                f"through meanwhile; the last: {sent.error}"
            )
        self._work.audit.append(
            "webhook.disabled",
            tenant=pair.tenant,
            actor=NOBODY,
            id=pair.webhook_id,
            reason=reason,
        )
        if self._webhooks.disable(pair.tenant, pair.webhook_id, reason) is not None:
            _log.warning("disabled a webhook", webhook_id=pair.webhook_id, reason=reason)
