"""The keeper's loop: look at all open work, and do what is due.

Each API process has one; a lease in Redis decides which leads. Two at once would do no harm, since
every decision is a conditional create in the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter

import redis
import structlog

from app.domain.accounts.limits import read_limits
from app.loops.keeper.decisions import (
    Busy,
    DueWork,
    Pulse,
    Turns,
    by_turns,
    due_at,
    is_about,
    verdict,
)
from app.loops.keeper.sweep import sweep
from models_store.audit.log import AuditLog
from models_store.errors import CorruptArtifact, NewerRecord, NotFound, Unavailable
from models_store.live import keys as redis_keys
from models_store.live.clock import SharedClock
from models_store.live.heartbeats import editors_seen, internal_token
from models_store.live.leases import (
    DeathNotice,
    LeaseSeen,
    TokenLease,
    death_notices,
    leases_seen,
)
from models_store.live.queue import QueuedJob, WorkQueue
from models_store.objects.store import ObjectStore
from models_store.schemas.records import AttemptEnd, Claim, ErrorInfo
from models_store.settings import Settings
from models_store.work.store import Place, Work, WorkStore, kind_of

_log = structlog.get_logger()

_TURN_SECONDS = 1.0
_WAKE_SLICE_SECONDS = 0.5
_PAUSE_FACTOR = 3
"""A look at much open work is followed by a pause of so many times as long, since requests need the
time too."""
_LEAD_SECONDS = 5.0
_REREAD_SECONDS = 30.0
"""How often waiting work that is not enqueued is read again."""
_READING_SECONDS = 1.0
"""Per look, for work that was not read yet: a long queue takes several looks."""
_REREADING_SECONDS = 0.05
_MOST_REREAD = 20
"""Per look, of waiting work that is read again; requests need the time too."""
_STOP_LOOKS = 60
_DAY_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the keeper remembers of work. Whole `Work`s of ten thousand pieces would keep the
    garbage collector busy for longer than a request takes."""

    pool: str
    deadline: float
    attempt: int
    due_at: float
    claim: Claim | None
    """The last one."""
    running: Claim | None
    """The same, while that attempt runs."""

    @classmethod
    def of(cls, work: Work) -> _Seen:
        return cls(
            work.request.pool,
            work.request.deadline,
            work.attempt,
            due_at(work, time.time()),
            work.claims[-1] if work.claims else None,
            work.running,
        )


@dataclass(slots=True)
class _Open:
    """Open work, as this keeper remembers it between two looks."""

    place: Place
    seen: _Seen | None = None
    """None while there is a marker without a request: it is being submitted, or was interrupted."""
    read_at: float = 0.0
    pulse: Pulse | None = None
    job: QueuedJob | None = None
    """The last one, enqueued by this keeper or an earlier leader."""
    unreadable: bool = False


@dataclass
class _Leaving:
    """An attempt at work that has ended; its process should exit soon."""

    claim: Claim
    looks: int = 0


class Keeper:
    """Ends dead attempts as lost, completes interrupted results, enqueues work in fair order."""

    def __init__(
        self,
        objects: ObjectStore,
        client: redis.Redis,
        settings: Settings,
        audit: AuditLog | None = None,
        clock: SharedClock | None = None,
    ) -> None:
        self._store = WorkStore(objects, audit)
        self._client = client
        self._token = internal_token(settings)
        self._clock = clock or SharedClock.of(client)
        self._settings = settings
        self._queue = WorkQueue(client)
        self._lead = TokenLease(client, redis_keys.KEEPER, secrets.token_hex(8), _LEAD_SECONDS)
        self._stopping = threading.Event()
        self._open: dict[str, _Open] = {}
        self._listed: tuple[list[str], int] = ([], 0)
        """The markers at the last look, and how much was open after it."""
        self._leaving: dict[str, _Leaving] = {}
        limits = read_limits(settings)
        self._turns = Turns(lambda tenant: limits.of(tenant).running_edits)
        self._leads = False
        self._seeing_since = 0.0
        self._looked_at = float("-inf")
        self.done: Counter[str] = Counter()
        """Counts of `lost` attempts and of `completed`, `failed` and `enqueued` work."""

    async def run(self) -> None:
        """Run until `stop`."""
        sweeping: asyncio.Task[None] | None = None
        while not self._stopping.is_set():
            leads = await asyncio.to_thread(self._turn)
            if leads and (sweeping is None or sweeping.done()):
                sweeping = asyncio.create_task(asyncio.to_thread(self._sweep_daily))
        if sweeping is not None:
            await sweeping
        await asyncio.to_thread(self._step_down)

    def stop(self) -> None:
        """End `run` soon; may be called from any thread."""
        self._stopping.set()

    def look(self, *, alone: bool = False) -> bool:
        """Look at all open work once; False when another keeper leads.

        Args:
            alone: look even if another leads.

        Raises:
            redis.RedisError: Redis is away; open work waits.
            Unavailable: the store is away.
        """
        now = time.monotonic()
        if now - self._looked_at > _LEAD_SECONDS:
            self._seeing_since = now  # just started, or suspended: leases may be late
        self._looked_at = now
        try:
            if not self._take_lead(now) and not alone:
                self._open.clear()
                self._leaving.clear()
                return False
            self._look(now)
        except redis.RedisError:
            self._seeing_since = time.monotonic()
            raise
        return True

    @property
    def undecided(self) -> list[str]:
        """Running work of which it is not known yet whether its process is alive."""
        return [
            id for id, entry in self._open.items() if entry.pulse is not None and entry.pulse.missed
        ]

    @property
    def open_count(self) -> int:
        return len(self._open)

    def _turn(self) -> bool:
        """One look and a pause, which `wake_keeper` shortens; whether this keeper leads."""
        began = time.monotonic()
        try:
            leads = self.look()
            took = time.monotonic() - began
            if leads != self._leads:
                _log.info("this keeper leads" if leads else "another keeper leads")
            self._leads = leads
            if leads:
                self._stopping.wait(min(_PAUSE_FACTOR * took, _TURN_SECONDS))
                self._wait_for_wake()
            else:
                self._stopping.wait(_TURN_SECONDS)
            return leads
        except redis.RedisError as error:
            _log.warning("Redis is away; open work waits", error=str(error))
        except Unavailable as error:
            _log.warning("the store is away; open work waits", error=error.message)
        except Exception:
            _log.exception("a look of the keeper broke off")
        self._stopping.wait(_TURN_SECONDS)
        return False

    def _wait_for_wake(self) -> None:
        limit = time.monotonic() + _TURN_SECONDS
        while not self._stopping.is_set() and time.monotonic() < limit:
            if self._client.blpop([redis_keys.WAKE], timeout=_WAKE_SLICE_SECONDS):
                self._client.delete(redis_keys.WAKE)
                return

    def _take_lead(self, now: float) -> bool:
        held = self._lead.renew()
        if held == "missing":
            # Our lease expired, or Redis was flushed and all leases with it.
            self._seeing_since = now
            self._open.clear()
            return self._lead.take()
        return held == "renewed"

    def _step_down(self) -> None:
        try:
            self._lead.release()
        except redis.RedisError:
            return  # it expires

    def _look(self, now: float) -> None:
        self._list_open()
        self._read_due(now)
        running = [entry for entry in self._open.values() if entry.seen and entry.seen.running]
        ids = [entry.place.id for entry in running]
        leases = leases_seen(self._client, [*ids, *self._leaving])
        deaths = death_notices(self._client, ids)
        for entry in running:
            id = entry.place.id
            self._watch(entry, now, leases.get(id), deaths.get(id))
        self._stop_leaving(leases)
        self._enqueue_due()

    def _read_due(self, now: float) -> None:
        """Read busy and late work, then as much waiting work as there is time for."""
        waiting: dict[str, list[_Open]] = defaultdict(list)
        quiet = []
        wall = time.time()
        for entry in list(self._open.values()):
            if (seen := entry.seen) is None:
                waiting[entry.place.tenant].append(entry)
            elif entry.job is not None or seen.claim is not None or wall >= seen.deadline:
                self._read(entry, now)
            elif now - entry.read_at >= _REREAD_SECONDS:
                quiet.append(entry)
        # In turns, so that much unread work of one tenant does not delay that of another.
        for of_tenant in waiting.values():
            of_tenant.sort(key=lambda entry: (entry.read_at, entry.place.id.rpartition("_")[2]))
        self._read_within(_READING_SECONDS, by_turns(waiting), now)
        quiet.sort(key=attrgetter("read_at"))
        self._read_within(_REREADING_SECONDS, quiet[:_MOST_REREAD], now)

    def _read_within(self, seconds: float, entries: Iterable[_Open], now: float) -> None:
        limit = time.monotonic() + seconds
        for entry in entries:
            if time.monotonic() > limit:
                return
            self._read(entry, now)

    def _list_open(self) -> None:
        """Bring what is remembered in line with the markers."""
        paths = self._store.objects.paths("open", remember=True)
        if (paths, len(self._open)) == self._listed:
            return
        places = {}
        for path in paths:
            _, tenant, id = path.split("/", 2)
            if id in self._open:
                places[id] = self._open[id].place
                continue
            # The marker's name holds all that is in it, so even an empty one counts.
            kind = kind_of(id)
            if kind is not None:
                places[id] = Place(kind, tenant, id)
        new = list(places.keys() - self._open.keys())
        jobs = self._queue.last_jobs(new)
        for id in new:
            self._open[id] = _Open(places[id], job=jobs.get(id))
        for id in self._open.keys() - places.keys():
            self._decided(self._open[id])
        self._listed = (paths, len(self._open))

    def _decided(self, entry: _Open) -> None:
        """Another process ended the work; if by cancel or delete, stop its attempt at once."""
        place = entry.place
        # Read again, since it may have been claimed after the last look; deleted work cannot be.
        status = None
        with contextlib.suppress(NotFound, CorruptArtifact, NewerRecord):
            work = self._store.read(place.kind, place.tenant, place.id)
            entry.seen, status = _Seen.of(work), work.status
        self._drop(entry)
        if entry.seen is None or status in ("succeeded", "failed"):
            return
        if entry.seen.claim is not None:
            self._queue.stop(entry.seen.claim)
        elif entry.job is not None:
            self._queue.remove(entry.job, entry.seen.pool)

    def _read(self, entry: _Open, now: float) -> None:
        """Read the work again; complete an interrupted result, or fail hopeless work."""
        place = entry.place
        entry.read_at = now
        try:
            work = self._store.read(place.kind, place.tenant, place.id)
        except NotFound:
            if self._store.objects.info(f"{place.folder}/deleted.json") is not None:
                self._store.objects.delete(place.marker)
                self._drop(entry)
            return
        except (CorruptArtifact, NewerRecord) as error:
            if not entry.unreadable:
                _log.error("a record cannot be read", work_id=place.id, error=error.message)
            entry.unreadable, entry.seen = True, None
            return
        entry.seen = _Seen.of(work)
        if work.result is not None:
            self._store.objects.delete(place.marker)
            self._drop(entry)
        elif self._store.settle(work) is not None:
            _log.info("completed what was cut short", work_id=place.id)
            self.done["completed"] += 1
            self._drop(entry)
        elif work.running is None:
            entry.pulse = None
            error_info = verdict(work, self._clock.trusted(), self._settings)
            if error_info is not None:
                self._store.fail(place, work.attempt, error_info)
                _log.warning("gave up", work_id=place.id, reason=error_info.message)
                self.done["failed"] += 1
                self._drop(entry)

    def _watch(
        self, entry: _Open, now: float, lease: LeaseSeen | None, death: DeathNotice | None
    ) -> None:
        """End the running attempt as lost if it is dead."""
        assert entry.seen is not None
        claim = entry.seen.running
        assert claim is not None
        if entry.pulse is None or entry.pulse.attempt != claim.attempt:
            entry.pulse = Pulse(claim.attempt, now)
        entry.pulse.look(now, lease, self._settings.lease_seconds)
        if death is not None and is_about(death, claim):
            self._end_as_lost(entry, claim, death.reason, child_died=not death.on_purpose)
        elif entry.pulse.is_lost(now, self._seeing_since, self._settings.lease_seconds):
            silence = f"no sign of life for {self._settings.lease_seconds:g} seconds"
            self._end_as_lost(entry, claim, silence, child_died=False)

    def _end_as_lost(self, entry: _Open, claim: Claim, reason: str, *, child_died: bool) -> None:
        end = AttemptEnd(
            attempt=claim.attempt,
            outcome="lost",
            error=ErrorInfo(code="worker_lost", message=f"{reason} ({claim.worker})"),
            child_died=child_died,
        )
        if self._store.end_attempt(entry.place, end):
            _log.warning(
                "sealed an attempt", work_id=entry.place.id, attempt=claim.attempt, reason=reason
            )
            self.done["lost"] += 1
        self._leaving[entry.place.id] = _Leaving(claim)
        self._queue.stop(claim)
        self._read(entry, time.monotonic())

    def _drop(self, entry: _Open) -> None:
        self._open.pop(entry.place.id, None)
        if entry.seen is not None and entry.seen.claim is not None:
            self._leaving.setdefault(entry.place.id, _Leaving(entry.seen.claim))

    def _stop_leaving(self, leases: dict[str, LeaseSeen]) -> None:
        """Stop the processes of decided attempts that still hold their lease."""
        for id, leaving in list(self._leaving.items()):
            lease = leases.get(id)
            gone = lease is None or lease.attempt != leaving.claim.attempt
            if (gone and leaving.looks > 0) or leaving.looks > _STOP_LOOKS:
                del self._leaving[id]
                continue
            if leaving.looks > 0:  # not at once: an attempt that has just published is exiting
                self._queue.stop(leaving.claim)
            leaving.looks += 1

    def _enqueue_due(self) -> None:
        """Enqueue due work, as much as there are idle editors."""
        editors = editors_seen(self._client, self._token)
        living = {editor.name for editor in editors}
        room = Counter(editor.pool for editor in editors)
        busy: list[Busy] = []
        idle: list[_Open] = []
        waiting: dict[str, set[str]] = {}
        for entry in self._open.values():
            if (seen := entry.seen) is None:
                continue
            pool = seen.pool
            if pool not in waiting:
                waiting[pool] = self._queue.waiting(pool)
            if seen.running is not None:
                busy.append(Busy(entry.place.tenant, pool))
                room[pool] -= seen.running.worker in living
            elif entry.job is not None and self._is_pending(seen, entry.job, waiting[pool]):
                busy.append(Busy(entry.place.tenant, pool))
                room[pool] -= 1
            else:
                idle.append(entry)
        if all(count <= 0 for count in room.values()):
            return
        due = (
            DueWork(entry.place, seen.pool, seen.attempt + 1, seen.deadline)
            for entry in idle
            if (seen := entry.seen) and room[seen.pool] > 0 and seen.due_at <= time.time()
        )
        for work in self._turns.choose(due, room, busy):
            entry = self._open[work.place.id]
            entry.job = self._queue.enqueue(
                work.place, work.pool, work.attempt, self._seconds_left(work.deadline), entry.job
            )
            self.done["enqueued"] += 1

    def _seconds_left(self, deadline: float) -> float:
        """After which RQ may end an attempt: not too early, should a clock be wrong."""
        now = self._clock.trusted()
        return self._settings.edit_deadline_seconds if now is None else deadline - now

    def _is_pending(self, seen: _Seen, job: QueuedJob, waiting: set[str]) -> bool:
        """Whether an editor may still take the job of the due attempt."""
        if job.attempt != seen.attempt + 1:
            return False
        return job.job_id in waiting or time.time() - job.at < self._settings.ring_seconds

    def _sweep_daily(self) -> None:
        now = self._clock.trusted()
        if now is None:
            return  # what is old cannot be known
        try:
            if not self._client.set(redis_keys.SWEPT, "1", nx=True, ex=_DAY_SECONDS):
                return
            try:
                swept = sweep(self._store, self._stopping.is_set, now)
            except Unavailable as error:
                _log.warning("the daily sweep broke off", error=error.message)
                self._client.delete(redis_keys.SWEPT)
            else:
                _log.info("swept the store", **swept)
        except redis.RedisError:
            return  # another day
