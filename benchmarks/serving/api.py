"""The API beside bare routes of FastAPI that return the same bytes, and its processes at rest.

`wrk` sends requests to `scalpel api`, over a real Redis and a store in a folder, and to
`benchmarks.serving.bare_api`, alternately. Then: how soon the API serves, its memory, and what the
processes of `scalpel up` use while there is nothing to do.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import httpx
import psutil
import redis

from app.cli.supervisor import free_port
from app.services import Store
from benchmarks.claims import RatioClaim, parser, report
from benchmarks.serving.wrk import PROGRAM, Call, Speed, measure
from models_store.objects.store import open_store
from models_store.settings import Settings
from tests.app.support.worker import Worker
from tests.security.api_process import api_process
from tests.support.services import running_redis
from tests.system.service import running_service

CONNECTIONS = 16
STREAMS = 100
EDITS = 20
STARTS = 5
SETTLE_SECONDS = 5.0
READS = 0.6
CREATES = 0.3
IDLE_SHARE = 0.005
MOST_BYTES = 120e6
UNLIMITED = {
    "SCALPEL_LIMIT_REQUESTS_PER_SECOND": "1000000",
    "SCALPEL_LIMIT_REQUEST_BURST": "1000000",
    "SCALPEL_LIMIT_QUEUED_EDITS": "1000000",
}
EDIT = (
    '{"base_model": "pico", "behavior": "negativity", "method": {"type": "bias"}, '
    '"effort": "quick"}'
)
HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Pair:
    """One call of the API and of the bare route."""

    what: str
    ours: Speed
    bare: Speed

    @property
    def ratio(self) -> float:
        """Requests a second, as a share of those of the bare route."""
        return self.ours.per_second / self.bare.per_second

    def row(self) -> str:
        cells = (
            f"{speed.per_second:,.0f} | {speed.p50:.1f} ms | {speed.p99:.1f} ms"
            for speed in (self.ours, self.bare)
        )
        return f"| {self.what} | {' | '.join(cells)} | {self.ratio:.2f} |"


TABLE_HEAD = """\
| call | requests a second | p50 | p99 | bare route | p50 | p99 | ratio |
|---|---|---|---|---|---|---|---|"""


@contextlib.contextmanager
def bare_api(folder: Path, bodies: Mapping[str, bytes]) -> Iterator[str]:
    """The bare routes in a process of their own; yields its URL."""
    for name, body in bodies.items():
        (folder / name).write_bytes(body)
    port = free_port("127.0.0.1")
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.serving.bare_api", str(folder), str(port)]
    )
    try:
        wait_for(f"{url}/v1/edits", process)
        yield url
    finally:
        end(process)


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    """Return at the first good response."""
    with httpx.Client(trust_env=False) as client:
        while process.poll() is None:
            with contextlib.suppress(httpx.HTTPError):
                if client.get(url).is_success:
                    return
            time.sleep(0.005)
    raise AssertionError(f"the server at {url} has ended")


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(30)


def finished_edits(settings: Settings, http: httpx.Client) -> list[str]:
    """Make edits that have ended; their ids."""
    store = Store.over(open_store(settings), settings)
    with contextlib.closing(redis.Redis.from_url(settings.redis_url)) as client:
        worker = Worker(store, client)
        worker.register("pico")
        made = [new_edit(http) for _ in range(EDITS)]
        for id in made:
            worker.claim(id)
            worker.succeed(id, points=dict.fromkeys(range(5), b""))
    return made


def new_edit(http: httpx.Client) -> str:
    made = http.post("/v1/edits", content=EDIT, headers=HEADERS).raise_for_status()
    return str(made.json()["id"])


@contextlib.contextmanager
def open_streams(url: str, edit: str) -> Iterator[None]:
    """Many clients that follow an edit meanwhile."""
    with contextlib.ExitStack() as streams:
        for _ in range(STREAMS):
            address = ("127.0.0.1", int(url.rpartition(":")[2]))
            stream = streams.enter_context(socket.create_connection(address))
            stream.sendall(
                f"GET /v1/edits/{edit}/events HTTP/1.1\r\nHost: localhost\r\n"
                "Accept: text/event-stream\r\n\r\n".encode()
            )
            assert b" 200 " in stream.recv(4096)
        yield


def side_by_side(
    what: str, urls: tuple[str, str], call: Call, folder: Path, seconds: int, repeats: int
) -> Pair:
    """Medians of the API and of the bare route, measured alternately."""
    speeds: tuple[list[Speed], list[Speed]] = ([], [])
    for _ in range(repeats):
        for url, of_url in zip(urls, speeds, strict=True):
            of_url.append(measure(url, call, folder, connections=CONNECTIONS, seconds=seconds))
    ours, bare = map(median, speeds)
    pair = Pair(what, ours, bare)
    print(pair.row(), file=sys.stderr)
    return pair


def median(speeds: list[Speed]) -> Speed:
    return Speed(
        *(statistics.median(getattr(one, part.name) for one in speeds) for part in fields(Speed))
    )


def under_load(folder: Path, seconds: int, repeats: int) -> tuple[list[Pair], float]:
    """Every call side by side; bytes that the API holds afterwards."""
    with (
        running_redis() as server,
        api_process(folder, server.url, **UNLIMITED) as api,
        httpx.Client(base_url=api.url, trust_env=False) as http,
    ):
        settings = Settings(data=folder / "data", redis_url=server.url)
        ended = tuple(f"/v1/edits/{id}" for id in finished_edits(settings, http))
        queued = new_edit(http)
        calls = {
            "read a finished edit": Call("GET", ended),
            "read a queued edit": Call("GET", (f"/v1/edits/{queued}",)),
            "list 20 edits": Call("GET", ("/v1/edits?limit=20",)),
            "create an edit": Call("POST", ("/v1/edits",), EDIT, keyed=True),
        }
        bodies = {
            "read": http.get(ended[0]).content,
            "list": http.get("/v1/edits?limit=20").content,
            "create": http.get(f"/v1/edits/{queued}").content,
        }
        with bare_api(folder, bodies) as bare:
            urls = (api.url, bare)
            pairs = []
            with open_streams(api.url, queued):
                what = f"read a finished edit while {STREAMS} event streams are open"
                reads = calls["read a finished edit"]
                pairs.append(side_by_side(what, urls, reads, folder, seconds, repeats))
            for what, call in calls.items():
                pairs.append(side_by_side(what, urls, call, folder, seconds, repeats))
        return [*pairs[1:4], pairs[0], pairs[4]], api.memory


def start_seconds(folder: Path) -> float:
    """From the start of a process to the first response of /healthz: the median."""
    took = []
    with running_redis() as server:
        for _ in range(STARTS):
            port = free_port("127.0.0.1")
            environment = {
                **os.environ,
                "SCALPEL_DATA": str(folder),
                "SCALPEL_REDIS_URL": server.url,
                "SCALPEL_PORT": str(port),
                "SCALPEL_DEFAULT_BASE_MODEL": "false",
            }
            with (folder / "api.log").open("wb") as log:
                began = time.perf_counter()
                process = subprocess.Popen(
                    [sys.executable, "-m", "app.cli.main", "api"],
                    env=environment,
                    stdout=log,
                    stderr=log,
                )
                wait_for(f"http://127.0.0.1:{port}/healthz", process)
                took.append(time.perf_counter() - began)
                end(process)
    return statistics.median(took)


def idle_shares(folder: Path, seconds: float) -> dict[str, float]:
    """Of a core, that each process of `scalpel up` uses while nobody asks for anything."""
    with running_service(folder / "data", SCALPEL_DEFAULT_BASE_MODEL="false") as service:
        time.sleep(SETTLE_SECONDS)
        supervisor = psutil.Process(service.process.pid)
        processes = {name_of(one): one for one in supervisor.children(recursive=True)}
        processes["supervisor"] = supervisor
        before = {name: cpu_seconds(one) for name, one in processes.items()}
        time.sleep(seconds)
        return {
            name: (cpu_seconds(one) - before[name]) / seconds for name, one in processes.items()
        }


def name_of(process: psutil.Process) -> str:
    name: str = process.name()
    return "Redis" if "redis" in name else process.cmdline()[-1].rpartition(".")[2]


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> int:
    options = parser(__doc__ or "")
    options.add_argument("--seconds", type=int, default=2, help="of each measurement")
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--idle", type=float, default=60, help="seconds at rest")
    given = options.parse_args()
    if shutil.which(PROGRAM) is None:
        print(f"serving.api: skipped, there is no {PROGRAM}", file=sys.stderr)
        return 0
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # as installed, with compiled modules
    with tempfile.TemporaryDirectory(prefix="scalpel-api-") as name:
        folder = Path(name)
        (folder / "start").mkdir()
        pairs, held = under_load(folder, given.seconds, given.repeats)
        start = start_seconds(folder / "start")
        (folder / "up").mkdir()
        idle = idle_shares(folder / "up", given.idle)
    finished, queued, _, _, create = pairs
    claims = [
        RatioClaim(
            f"{pair.what}: requests a second against a bare route", pair.ratio, goal, "higher"
        )
        for pair, goal in ((finished, READS), (queued, READS), (create, CREATES))
    ]
    claims += [
        RatioClaim(f"start of the API, {start:.2f} s, against a second", start, 1, "lower"),
        RatioClaim(
            f"memory of the API after all that, {held / 1e6:.0f} MB, against 120 MB",
            held / MOST_BYTES,
            1,
            "lower",
        ),
    ]
    claims += [
        RatioClaim(
            f"{name} at rest, {share:.2%} of a core, against 0.5 %", share / IDLE_SHARE, 1, "lower"
        )
        for name, share in sorted(idle.items())
    ]
    rows = "\n".join(pair.row() for pair in pairs)
    return report(claims, given, "serving.api", f"{TABLE_HEAD}\n{rows}")


if __name__ == "__main__":
    sys.exit(main())
