"""By the number of edits in a file store, one submitted every ten seconds in the past: calls of the
API over HTTP, what an editor does to begin the next edit, and the daily sweep."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median

import httpx
from ulid import ULID

from app.loops.keeper import Keeper
from app.loops.keeper.sweep import sweep
from benchmarks.claims import seconds
from benchmarks.scaling.points import Point, PointFile
from models_store.live import keys as redis_keys
from models_store.live.heartbeats import Editor, signed
from models_store.live.leases import connect
from models_store.objects.store import open_store
from models_store.schemas.records import Result
from models_store.settings import Settings
from models_store.work.base_models import BaseModels
from models_store.work.store import Place, WorkStore
from tests.app.support.worker import edit_body
from tests.models_store.make import register
from tests.security.api_process import api_process
from tests.support.queued import end_many, queue_many
from tests.support.services import RedisServer, running_redis

SIZES = (10, 100, 1_000, 10_000, 100_000)
FIRST_PAGE, MIDDLE_PAGE = "first page", "page in the middle"
READ, SUBMIT = "read", "submit"
FIRST_SUBMIT = "submit, the first one after a start"
PAGE_AFTER = "first page after a submission"
CLAIM, SWEEP = "claim", "daily sweep"
_TENANT = "default"
_APART_SECONDS = 10
_QUEUED = 20
_TIMES = 20
_SETTLE_SECONDS = 3.0
"""Until folders that have just changed are remembered."""


def measure(file: PointFile) -> Iterator[Point]:
    """The points that the file does not have."""
    missing = file.missing(SWEEP, SIZES)
    if not missing:
        return
    with tempfile.TemporaryDirectory(prefix="scalpel-scaling-") as name:
        store = _Stored(Path(name))
        for size in missing:
            store.fill(size)
            with running_redis() as redis:
                with closing(redis.client()) as client:
                    client.set(redis_keys.SWEPT, "1")  # measured below, on its own
                yield from _calls(store, redis, size)
                yield Point(CLAIM, size, _claims(store, redis))
            yield Point(SWEEP, size, seconds(lambda: sweep(store.work, lambda: False)))


class _Stored:
    """A local store with a base model, which is filled with older and older edits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(data=folder / "data", default_base_model=False)
        self.work = WorkStore(open_store(self.settings))
        register(self.work, BaseModels(self.work))
        self.ids: list[str] = []
        """Of the edits that have ended, newest first."""
        self._newest = time.time() - _APART_SECONDS

    @property
    def root(self) -> Path:
        assert self.work.objects.root is not None
        return self.work.objects.root

    def fill(self, count: int) -> None:
        """Bring the number of edits that have ended to `count`, and have some queued ones."""
        more = [
            f"edit_{ULID.from_timestamp(self._newest - number * _APART_SECONDS)}"
            for number in range(len(self.ids), count)
        ]
        end_many(self.root, _TENANT, more)
        self.ids += more
        queue_many(self.root, _TENANT, _QUEUED)
        time.sleep(_SETTLE_SECONDS)


def _calls(store: _Stored, redis: RedisServer, size: int) -> Iterator[Point]:
    with (
        api_process(store.folder, redis.url) as api,
        httpx.Client(base_url=api.url, timeout=60, trust_env=False) as http,
    ):

        def get(path: str) -> Callable[[], object]:
            return lambda: http.get(path).raise_for_status()

        def submit() -> None:
            http.post("/v1/edits", json=edit_body(method={"type": "bias"})).raise_for_status()

        page = "/v1/edits?limit=20"
        yield Point(FIRST_SUBMIT, size, seconds(submit))
        yield Point(SUBMIT, size, _median([submit] * _TIMES))
        yield Point(PAGE_AFTER, size, _median([get(page)] * _TIMES))
        time.sleep(_SETTLE_SECONDS)
        yield Point(FIRST_PAGE, size, _median([get(page)] * _TIMES))
        # Others each time, since what has ended is remembered.
        middle = store.ids[len(store.ids) // 2 :][:_TIMES]
        yield Point(MIDDLE_PAGE, size, _median([get(f"{page}&after={id}") for id in middle]))
        spread = store.ids[:: max(1, len(store.ids) // _TIMES)]
        yield Point(READ, size, _median([get(f"/v1/edits/{id}") for id in spread]))


def _claims(store: _Stored, redis: RedisServer) -> float:
    """Seconds from a look of the keeper with an idle editor until the next edit is claimed."""
    settings = store.settings.model_copy(update={"redis_url": redis.url})
    client = connect(settings)
    beat = Editor(name="editor-1", pool="cpu", host="here", pid=1, at=time.time())
    keeper = Keeper(store.work.objects, client, settings)
    keeper.look()  # reads all that is queued
    queue = f"rq:queue:{redis_keys.queue('cpu')}"

    def claimed() -> Place:
        keeper.look()
        job = client.lpop(queue)
        assert isinstance(job, bytes)
        place = Place("edit", _TENANT, job.decode().rsplit("-", 2)[0])
        assert store.work.claim(place, beat.name) is not None
        return place

    key = f"{redis_keys.EDITORS}{beat.name}"
    client.set(key, signed("", key, beat.model_dump_json().encode()))
    taken = []
    for _ in range(_TIMES // 2):
        started = time.perf_counter()
        place = claimed()
        taken.append(time.perf_counter() - started)
        store.work.finish(place, Result(status="canceled", attempt=1))
    client.close()
    return median(taken)


def _median(work: Sequence[Callable[[], object]]) -> float:
    return median(map(seconds, work))
