"""Lists and submissions on S3, where every request takes a while.

A tenant has many edits that have ended, spread evenly over a year, and a few queued ones.
`scalpel api`, over a real Redis and `benchmarks.serving.s3_server`, shows pages of them, lists
models and takes submissions, one call at a time; the first of a kind comes right after a start of
the API. Then the daily sweep runs in a process of its own.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from ulid import ULID

from app.cli.supervisor import free_port
from benchmarks.claims import RatioClaim, parser, report, seconds
from benchmarks.serving.api import UNLIMITED, end, wait_for
from benchmarks.serving.s3_server import DELAY_SECONDS
from models_store.live import keys as redis_keys
from models_store.objects.store import open_store
from models_store.process.lifetimes import die_with_parent
from models_store.settings import Settings
from models_store.work.base_models import BaseModels
from models_store.work.store import WorkStore
from tests.app.support.worker import edit_body
from tests.models_store.make import register
from tests.security.api_process import api_process
from tests.support.queued import end_many, queue_many
from tests.support.services import RedisServer, running_redis

SECTION = "serving.s3_lists"
EDITS = 100_000
QUEUED = 20
PAGE = 100
PAGES = 20
SUBMISSIONS = 100
PAGE_SECONDS = 1.0
MODELS_SECONDS = 2.0
SUBMIT_SECONDS = 1.5
SWEEP_SECONDS = 600.0
SWEEP_MIB = 300.0
_TENANT = "default"
_YEAR_SECONDS = 365 * 24 * 3600
_LONGEST_SECONDS = 3600
_BUCKET = "bucket"
_MIB = 2**20


@dataclass(frozen=True)
class Figure:
    """What was measured, and the most that it should be."""

    what: str
    value: float
    goal: float | None = None
    unit: str = "s"

    def __str__(self) -> str:
        return f"{self.what}, {self.value:,.2f} {self.unit}"

    def claim(self) -> RatioClaim | None:
        if self.goal is None:
            return None
        against = f"{self}, against {self.goal:g} {self.unit}"
        return RatioClaim(against, self.value / self.goal, 1, "lower")


def fill(folder: Path, edits: int) -> list[str]:
    """Make the edits in a local store; the ids of those that have ended, newest first."""
    work = WorkStore(open_store(Settings(data=folder)))
    register(work, BaseModels(work))
    root = work.objects.root
    assert root is not None
    now, apart = time.time(), _YEAR_SECONDS / edits
    ended = [f"edit_{ULID.from_timestamp(now - number * apart)}" for number in range(1, edits + 1)]
    end_many(root, _TENANT, ended)
    queue_many(root, _TENANT, QUEUED)
    return ended


@contextlib.contextmanager
def running_s3(
    store: Path, delay: float = DELAY_SECONDS, put_delay: float | None = None
) -> Iterator[dict[str, str]]:
    """The stand-in with the objects of a local store; yields the environment of its clients.

    Args:
        delay: seconds that a response takes.
        put_delay: to a PUT, where it differs.
    """
    port, parent = free_port("127.0.0.1"), os.getpid()
    command = [sys.executable, "-m", "benchmarks.serving.s3_server", str(store), str(port)]
    command += ["--delay", str(delay)]
    if put_delay is not None:
        command += ["--put-delay", str(put_delay)]
    process = subprocess.Popen(command, preexec_fn=lambda: die_with_parent(parent))
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{url}/{_BUCKET}?list-type=2&max-keys=1", process)
        yield {
            "SCALPEL_STORE_URL": f"s3://{_BUCKET}",
            "SCALPEL_S3_ENDPOINT": url,
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_REGION": "us-east-1",
        }
    finally:
        end(process)


@contextlib.contextmanager
def _started_api(
    folder: Path, redis: RedisServer, store: Mapping[str, str]
) -> Iterator[httpx.Client]:
    with (
        api_process(folder, redis.url, **UNLIMITED, **store) as api,
        httpx.Client(base_url=api.url, timeout=_LONGEST_SECONDS, trust_env=False) as http,
    ):
        yield http


def _reads(http: httpx.Client, ended: Sequence[str]) -> Iterator[Figure]:
    def took(path: str) -> float:
        return seconds(lambda: http.get(path).raise_for_status())

    page = f"/v1/edits?limit={PAGE}"
    yield Figure(f"first page of {PAGE} edits", took(page), PAGE_SECONDS)
    begin = max(PAGE, (len(ended) - PAGES * PAGE) // 2)
    pages = [took(f"{page}&after={id}") for id in ended[begin::PAGE][:PAGES]]
    yield Figure("pages from the middle, median", statistics.median(pages), PAGE_SECONDS)
    yield Figure("pages from the middle, worst", max(pages), PAGE_SECONDS)
    yield Figure("`GET /v1/models`", took("/v1/models"), MODELS_SECONDS)
    yield Figure("`GET /v1/models` again", took("/v1/models"), MODELS_SECONDS)


def _submissions(http: httpx.Client) -> Iterator[Figure]:
    body = edit_body(method={"type": "bias"})

    def submit() -> None:
        http.post("/v1/edits", json=body).raise_for_status()

    yield Figure("`POST /v1/edits`, the first one after a start", seconds(submit))
    took = [seconds(submit) for _ in range(SUBMISSIONS)]
    yield Figure("`POST /v1/edits`, p50", statistics.median(took))
    p99 = statistics.quantiles(took, n=100, method="inclusive")[-1]
    yield Figure("`POST /v1/edits`, p99", p99, SUBMIT_SECONDS)


def _sweep(folder: Path, store: Mapping[str, str]) -> Iterator[Figure]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serving.s3_sweep"],
        env={**os.environ, **store, "SCALPEL_DATA": str(folder / "data")},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    took, grown = map(float, done.stdout.split()[-2:])
    yield Figure("daily sweep", took, SWEEP_SECONDS)
    yield Figure("daily sweep, growth of memory", grown / _MIB, SWEEP_MIB, "MiB")


def measure(folder: Path, edits: int, delay: float) -> Iterator[Figure]:
    """All figures, over so many edits that have ended; files go below `folder`."""
    ended = fill(folder / "data", edits)
    with running_s3(folder / "data" / "store", delay) as store, running_redis() as redis:
        with contextlib.closing(redis.client()) as client:
            client.set(redis_keys.SWEPT, "1")  # measured below, on its own
        with _started_api(folder, redis, store) as http:
            yield from _reads(http, ended)
        with _started_api(folder, redis, store) as http:
            yield from _submissions(http)
        yield from _sweep(folder, store)


def notes(figures: Sequence[Figure], edits: int, delay: float) -> str:
    """What the claims do not say."""
    rest = "; ".join(str(figure) for figure in figures if figure.goal is None)
    return (
        f"{edits:,} edits that have ended and {QUEUED} queued ones, "
        f"{delay * 1_000:.0f} ms a request. {rest}."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser(__doc__ or "")
    options.add_argument("--edits", type=int, default=EDITS, help="that have ended, over 100")
    options.add_argument("--delay", type=float, default=DELAY_SECONDS, help="seconds a request")
    given = options.parse_args(arguments)
    figures = []
    with tempfile.TemporaryDirectory(prefix="scalpel-s3-") as name:
        for figure in measure(Path(name), given.edits, given.delay):
            print(figure, file=sys.stderr, flush=True)
            figures.append(figure)
    claims = [claim for figure in figures if (claim := figure.claim()) is not None]
    return report(claims, given, SECTION, notes(figures, given.edits, given.delay))


if __name__ == "__main__":
    sys.exit(main())
