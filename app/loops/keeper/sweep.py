"""The daily sweep: repair or remove what crashes left behind."""

from __future__ import annotations

import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import takewhile
from threading import Lock

import structlog

from app.domain.accounts.api_keys import ApiKeys
from app.domain.accounts.sessions import remove_old_sessions
from app.domain.behaviors.library import BEHAVIORS
from app.domain.edits.idempotency import KEPT_SECONDS
from app.domain.erasure import CACHES
from app.domain.fine_tuning.files import FILES, FileVersion
from app.domain.variants.names import SUFFIXES
from app.domain.webhooks.deliveries import KEPT_SECONDS as DELIVERIES_KEPT_SECONDS
from app.domain.webhooks.deliveries import Deliveries
from app.domain.webhooks.webhooks import WebhookVersion
from models_store.audit.segments import SEGMENTS, seal
from models_store.errors import CorruptArtifact, NewerRecord, NotFound
from models_store.objects.histories import Histories
from models_store.objects.store import PROBES, ObjectInfo
from models_store.schemas.records import IdempotencyRecord, Kind, Marker
from models_store.work.outbox import WEBHOOKS
from models_store.work.reservations import Reservations
from models_store.work.store import FOLDERS, SHARED_TENANT, Place, WorkStore

_log = structlog.get_logger()

_STALE_SECONDS = 24 * 3600
"""Younger objects may still be in use."""
_TOMBSTONE = {"deleted.json", "summary.json"}
_LOOKED_BACK_SECONDS = 30 * 24 * 3600
"""What ended, or was taken, earlier was put in order by the sweeps since."""
_CACHED_SECONDS = 30 * 24 * 3600
_IDEMPOTENCY = "idempotency"


def sweep(store: WorkStore, stopped: Callable[[], bool], now: float | None = None) -> Counter[str]:
    """Go once through all work.

    - Work without a result and without a marker gets its marker again.
    - The marker of work that was never submitted, has a result or was deleted is removed.
    - Of work that was never submitted, the texts, the idempotency key and the suffix are removed;
      so are the bytes of uploads that were cut short, and of deleted files.
    - Finished work without a summary gets one.
    - Files of finished work that its result does not name are removed; attempts that were lost,
      canceled or returned to the queue left them.
    - What is left of deleted work is erased.
    - What was cached for a tenant a month ago is removed.
    - Chains of the audit log that have ended are moved into segments.
    - Expired idempotency keys, deliveries of old edits and to deleted webhooks, expired sign-ins,
      API keys that ended a month ago, and temporary files of dead writers are removed.

    Args:
        stopped: called between two pieces of work; when true, the sweep ends early.
        now: Unix seconds.

    Returns:
        How many of each were repaired or removed: `marked`, `unmarked`, `erased`, `unborn`,
        `summarized`, `unnamed`, `keys`, `suffixes`, `deliveries`, `sessions`, `api_keys`, `cached`,
        `sealed`, `temporary`; and `unreadable`, what was left out since its records are damaged.

    Raises:
        Unavailable: the store is away.
    """
    now = time.time() if now is None else now
    return +_Sweep(store, stopped, now).run()


class _Sweep:
    def __init__(self, store: WorkStore, stopped: Callable[[], bool], now: float) -> None:
        self._store = store
        self._objects = store.objects
        self._stopped = stopped
        self._now = now
        self._done: Counter[str] = Counter()
        self._lock = Lock()

    def run(self) -> Counter[str]:
        markers = {info.path: info for info in self._objects.files("open")}

        def look(work: tuple[Place, dict[str, ObjectInfo]]) -> None:
            place, files = work
            marker = markers.pop(place.marker, None)
            with self._contained(place.id):
                self._look_at(place, files, marker)

        work = takewhile(lambda _: not self._stopped(), _all_work(self._store))
        for _ in self._objects.in_parallel(look, work):
            pass
        if self._stopped():
            return self._done
        # The markers left have no folder: their submission was interrupted right after them.
        for path, marker in markers.items():
            if self._is_stale(marker):
                self._remove(path, "unmarked")
        for step in (self._keys, self._files, self._suffixes, self._deliveries):
            if self._stopped():
                return self._done
            step()
        self._caches()
        with self._contained(SEGMENTS):
            self._done["sealed"] = seal(self._objects, self._now, self._stopped)
        for info in self._objects.files(PROBES):
            if self._is_stale(info):
                self._remove(info.path, "temporary")
        self._done["sessions"] = remove_old_sessions(self._objects, self._now)
        keys = ApiKeys(self._objects, self._store.audit)
        with self._contained("api_keys"):
            self._done["api_keys"] = keys.remove_ended(self._now)
        old = self._now - _STALE_SECONDS
        self._done["temporary"] += self._objects.remove_temporary_files(old)
        return self._done

    def _look_at(
        self, place: Place, files: Mapping[str, ObjectInfo], marker: ObjectInfo | None
    ) -> None:
        deleted, ended = "deleted.json" in files, "result.json" in files
        open_ = "request.json" in files and not ended and not deleted
        if open_ and marker is None:
            self._objects.create_record(place.marker, Marker(kind=place.kind))
            self._count("marked")
        if marker is not None and not open_ and self._is_stale(marker):
            self._remove(place.marker, "unmarked")
        if deleted:
            if files.keys() - _TOMBSTONE:
                self._store.erase(place)
                self._count("erased")
        elif "request.json" not in files:
            if all(self._is_stale(info) for info in files.values()):
                for info in files.values():
                    self._remove(info.path, "unborn")
        elif ended:
            if "summary.json" not in files and self._store.summarize(place):
                self._count("summarized")
            if self._now - files["result.json"].modified_at < _LOOKED_BACK_SECONDS:
                self._remove_unnamed(place, files)

    def _remove_unnamed(self, place: Place, files: Mapping[str, ObjectInfo]) -> None:
        """Remove files of attempts that the result does not name."""
        written = [
            info
            for name, info in files.items()
            if name.startswith("attempts/")
            and not name.endswith(("/claim.json", "/end.json"))
            and self._is_stale(info)
        ]
        result = self._store.result_of(place) if written else None
        if result is None:
            return
        named = {path for artifact in result.artifacts for path in artifact.paths}
        for info in written:
            if info.path not in named:
                self._remove(info.path, "unnamed")

    def _keys(self) -> None:
        for info in self._objects.files(_IDEMPOTENCY):
            if not self._is_stale(info):
                continue
            if self._now > info.modified_at + KEPT_SECONDS:
                self._remove(info.path, "keys")
                continue
            with self._contained(info.path):
                record = self._objects.read_record(info.path, IdempotencyRecord)
                tenant = info.path.split("/")[1]
                if record is not None and not self._exists(record.kind, tenant, record.id):
                    self._remove(info.path, "keys")

    def _files(self) -> None:
        """Remove the bytes of uploads that were cut short, and of deleted files."""
        versions = Histories(self._objects, FILES, FileVersion)
        for info in self._objects.files(FILES):
            _, tenant, id, name = info.path.split("/")
            if name.endswith(".jsonl") and self._is_stale(info):
                with self._contained(info.path):
                    if versions.current(tenant, id) is None:
                        self._remove(info.path, "unborn")

    def _suffixes(self) -> None:
        suffixes = Reservations(self._store, "edit", SUFFIXES, "suffix_taken")
        before = self._now - _STALE_SECONDS
        for tenant in self._objects.children(SUFFIXES):
            files = self._objects.files(f"{SUFFIXES}/{tenant}")
            changed = {
                info.path.split("/")[2]
                for info in files
                if self._now - info.modified_at < _LOOKED_BACK_SECONDS
            }
            for name in sorted(changed):
                with self._contained(f"{SUFFIXES}/{tenant}/{name}"):
                    self._done["suffixes"] += suffixes.release_unborn(tenant, name, before)

    def _deliveries(self) -> None:
        deliveries = Deliveries(self._objects)
        webhooks = Histories(self._objects, WEBHOOKS, WebhookVersion)
        for tenant, id in deliveries.webhooks():
            with self._contained(f"{WEBHOOKS}/{tenant}/{id}"):
                gone = webhooks.current(tenant, id) is None
                before = None if gone else self._now - DELIVERIES_KEPT_SECONDS
                self._done["deliveries"] += deliveries.delete(tenant, id, before)

    def _caches(self) -> None:
        """Remove what was computed for a tenant's edits a month ago, and can be computed again."""
        for folder in CACHES:
            for tenant in self._objects.children(folder):
                for info in self._objects.files(f"{folder}/{tenant}"):
                    if tenant != SHARED_TENANT and self._now > info.modified_at + _CACHED_SECONDS:
                        self._remove(info.path, "cached")

    def _exists(self, kind: str, tenant: str, id: str) -> bool:
        """Whether what a key stands for exists or existed; True for kinds not known here."""
        folder = {"behavior": BEHAVIORS, "file": FILES}.get(kind)
        if folder is not None:
            return bool(self._objects.files(f"{folder}/{tenant}/{id}"))
        for work_kind in FOLDERS:
            if kind == work_kind:
                return self._store.is_begun(Place(work_kind, tenant, id))
        return True

    @contextlib.contextmanager
    def _contained(self, what: str) -> Iterator[None]:
        """What cannot be read is counted and logged, and does not end the sweep."""
        try:
            yield
        except (CorruptArtifact, NewerRecord, NotFound) as error:
            _log.error("the sweep left out", what=what, error=error.message)
            self._count("unreadable")

    def _is_stale(self, info: ObjectInfo) -> bool:
        return self._now - info.modified_at > _STALE_SECONDS

    def _remove(self, path: str, what: str) -> None:
        self._objects.delete(path)
        self._count(what)

    def _count(self, what: str) -> None:
        with self._lock:
            self._done[what] += 1


def _all_work(store: WorkStore) -> Iterator[tuple[Place, dict[str, ObjectInfo]]]:
    """Every piece of work with its files by name."""
    kinds: list[Kind] = list(FOLDERS)
    for kind in kinds:
        for tenant in store.objects.children(FOLDERS[kind]):
            for bucket in store.objects.children(f"{FOLDERS[kind]}/{tenant}"):
                folder = f"{FOLDERS[kind]}/{tenant}/{bucket}"
                by_id: dict[str, dict[str, ObjectInfo]] = defaultdict(dict)
                for info in store.objects.files(folder):
                    id, _, name = info.path.removeprefix(f"{folder}/").partition("/")
                    by_id[id][name] = info
                for id, files in by_id.items():
                    yield Place(kind, tenant, id), files
