"""The service under many clients, and the listing of a long queue.

`scalpel up` with a pico model on this machine: clients that poll edits, that submit and cancel
them, and that stream completions, all at once. Every response but success and 429 is an error, and
the memory of the API must not grow after warm-up. Then 10,000 queued edits are put into a store
without editors and listed in pages of 100.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import ssl
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from benchmarks.claims import RatioClaim, parser, report
from tests.app.support.worker import edit_body
from tests.security.api_process import api_process
from tests.support.pico import save_pico
from tests.support.queued import queue_many
from tests.support.services import running_redis
from tests.system.service import Service, running_service

POLL_SECONDS = 1.0
SUBMIT_SECONDS = 2.0
SETTINGS = {
    "SCALPEL_DEFAULT_BASE_MODEL": "false",
    "SCALPEL_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    # All clients are one tenant here.
    "SCALPEL_LIMIT_REQUESTS_PER_SECOND": "10000",
    "SCALPEL_LIMIT_REQUEST_BURST": "10000",
    "SCALPEL_LIMIT_TOKENS_PER_MINUTE": "100000000",
}
PAGE_MILLISECONDS = 50.0
MEGABYTE = 2**20


@dataclass
class ClientStats:
    """Response times and errors of the clients."""

    until: float
    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Response times of successful calls, by call."""
    refused: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    edits: list[str] = field(default_factory=list)

    @property
    def running(self) -> bool:
        return time.monotonic() < self.until

    async def record(
        self, call: str, pending: Awaitable[httpx.Response], fine: tuple[int, ...] = ()
    ) -> httpx.Response | None:
        """Await a call and count it; None unless it succeeded or has a status in `fine`."""
        started = time.monotonic()
        try:
            response = await pending
        except httpx.HTTPError as error:
            self.errors[f"{call}: {type(error).__name__}: {error}"] += 1
            return None
        if response.status_code == 429:
            self.refused[call] += 1
        elif not response.is_success and response.status_code not in fine:
            self.errors[f"{call}: {response.status_code}"] += 1
        else:
            self.seconds[call].append(time.monotonic() - started)
            return response
        return None


async def poll(client: httpx.AsyncClient, stats: ClientStats) -> None:
    await asyncio.sleep(random.random() * POLL_SECONDS)
    while stats.running:
        if stats.edits:
            id = random.choice(stats.edits[-500:])
            await stats.record("GET /v1/edits/{id}", client.get(f"/v1/edits/{id}"))
        await asyncio.sleep(POLL_SECONDS)


async def submit(client: httpx.AsyncClient, stats: ClientStats) -> None:
    await asyncio.sleep(random.random() * SUBMIT_SECONDS)
    while stats.running:
        body = edit_body(method={"type": "bias"}, effort="quick")
        made = await stats.record("POST /v1/edits", client.post("/v1/edits", json=body))
        if made is not None:
            stats.edits.append(made.json()["id"])
        await asyncio.sleep(SUBMIT_SECONDS)
        if made is not None:
            cancel = client.post(f"/v1/edits/{made.json()['id']}/cancel")
            # 409: it has ended meanwhile.
            await stats.record("POST /v1/edits/{id}/cancel", cancel, fine=(409,))


async def stream(client: httpx.AsyncClient, stats: ClientStats) -> None:
    body = {
        "model": "pico",
        "messages": [{"role": "user", "content": "the food is"}],
        "max_tokens": 64,
        "stream": True,
    }

    async def complete() -> httpx.Response:
        async with client.stream("POST", "/v1/chat/completions", json=body) as response:
            text = (await response.aread()).decode()
        if response.is_success and not text.rstrip().endswith("data: [DONE]"):
            raise httpx.RemoteProtocolError(f"the stream broke off: …{text[-300:]!r}")
        return response

    while stats.running:
        await stats.record("POST /v1/chat/completions", complete())
        await asyncio.sleep(0.1)


async def put_on_load(
    service: Service, stats: ClientStats, crowd: Mapping[Callable[..., Awaitable[None]], int]
) -> None:
    async def run_client(kind: Callable[..., Awaitable[None]]) -> None:
        async with httpx.AsyncClient(
            base_url=service.url, timeout=60.0, verify=tls, trust_env=False
        ) as client:
            await kind(client, stats)

    tls = ssl.create_default_context()  # shared: it takes longer than anything else of a client
    clients = (run_client(kind) for kind, count in crowd.items() for _ in range(count))
    await asyncio.gather(*clients)


async def watch_memory(pid: int, stats: ClientStats) -> list[tuple[float, int]]:
    process, started = psutil.Process(pid), time.monotonic()
    samples = []
    while stats.running:
        samples.append((time.monotonic() - started, int(process.memory_info().rss)))
        await asyncio.sleep(1)
    return samples


def api_of(service: Service) -> int:
    for process in psutil.Process(service.process.pid).children(recursive=True):
        if process.cmdline()[-2:] == ["app.cli.main", "api"]:
            return int(process.pid)
    raise AssertionError("the service has no API process")


def percentiles(seconds: list[float]) -> str:
    if len(seconds) < 2:
        return f"{len(seconds)} answers"
    cuts = statistics.quantiles(seconds, n=100)
    return (
        f"{len(seconds)} answers, p50 {cuts[49] * 1000:.0f} ms, p99 {cuts[98] * 1000:.0f} ms, "
        f"worst {max(seconds) * 1000:.0f} ms"
    )


def under_load(
    folder: Path, seconds: float, warm_up: float, pollers: int, submitters: int, streamers: int
) -> list[RatioClaim]:
    with running_service(folder / "data", **SETTINGS) as service:
        with service.client() as client:
            pico = save_pico(folder / "pico", num_hidden_layers=3)
            source = {"type": "folder", "path": str(pico)}
            client.post("/v1/base_models", json={"id": "pico", "source": source})
            made = client.get("/v1/base_models/pico?wait=60").json()
            assert made["status"] == "succeeded", made
        stats = ClientStats(time.monotonic() + seconds)

        async def run() -> list[tuple[float, int]]:
            crowd: dict[Callable[..., Awaitable[None]], int] = {
                poll: pollers,
                submit: submitters,
                stream: streamers,
            }
            watching = asyncio.create_task(watch_memory(api_of(service), stats))
            await put_on_load(service, stats, crowd)
            return await watching

        memory = asyncio.run(run())
    for call, took in sorted(stats.seconds.items()):
        print(f"{call}: {percentiles(took)}, {stats.refused[call]} refused (429)")
    for error, count in stats.errors.most_common():
        print(f"error: {error}: {count}")
    curve = " ".join(f"{rss / MEGABYTE:.0f}" for _, rss in memory[:: max(1, len(memory) // 20)])
    print(f"memory of the API over time, MiB: {curve}")
    warm = [rss for at, rss in memory if warm_up <= at < warm_up + 10]
    last = [rss for _, rss in memory[-10:]]
    growth = statistics.median(last) / statistics.median(warm)
    print(
        f"memory of the API: {statistics.median(warm) / MEGABYTE:.0f} MiB after {warm_up:.0f} s, "
        f"{statistics.median(last) / MEGABYTE:.0f} MiB after {seconds:.0f} s"
    )
    return [
        RatioClaim("answers that are neither good nor 429", stats.errors.total(), 0, "lower"),
        RatioClaim("memory of the API at the end against after its warm-up", growth, 1.05, "lower"),
    ]


def long_queue(folder: Path, count: int, settle: float) -> list[RatioClaim]:
    root = folder / "data" / "store"
    root.mkdir(parents=True)
    queue_many(root, "default", count)
    with running_redis() as server, api_process(folder, server.url) as api:
        time.sleep(settle)  # the keeper reads all of it once
        with httpx.Client(base_url=api.url, timeout=60, trust_env=False) as client:
            client.get("/v1/edits").raise_for_status()
            took, after, listed = [], None, 0
            for _ in itertools.count():
                params = {"limit": 100, **({"after": after} if after else {})}
                started = time.perf_counter()
                page = client.get("/v1/edits", params=params).raise_for_status()
                took.append(time.perf_counter() - started)
                listed, after = listed + len(page.json()["data"]), page.json()["last_id"]
                if not page.json()["has_more"]:
                    break
    assert listed == count, f"{listed} of {count} edits were listed"
    print(f"{count} queued edits in pages of 100: {percentiles(took)}")
    worst = max(took) * 1000 / PAGE_MILLISECONDS
    return [RatioClaim(f"worst page against {PAGE_MILLISECONDS:.0f} ms", worst, 1.0, "lower")]


def main() -> int:
    options = parser("The service under many clients, and a long queue in pages.")
    options.add_argument("--seconds", type=float, default=600)
    options.add_argument("--warm-up", type=float, help="seconds; by default a fifth of the time")
    options.add_argument("--pollers", type=int, default=200)
    options.add_argument("--submitters", type=int, default=50)
    options.add_argument("--streamers", type=int, default=20)
    options.add_argument("--queued", type=int, default=10_000)
    options.add_argument("--settle", type=float, default=30)
    given = options.parse_args()
    claims = []
    with tempfile.TemporaryDirectory(prefix="scalpel-load-") as name:
        folder = Path(name)
        if given.seconds:
            (folder / "load").mkdir()
            warm_up = given.warm_up or given.seconds / 5
            crowd = (given.pollers, given.submitters, given.streamers)
            claims += under_load(folder / "load", given.seconds, warm_up, *crowd)
        if given.queued:
            claims += long_queue(folder / "queue", given.queued, given.settle)
    return report(claims, given, "serving.load")


if __name__ == "__main__":
    sys.exit(main())
