"""The API beside a bare route of FastAPI that returns the same bytes, and its processes at rest.

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
from pathlib import Path

import httpx
import redis

from app.services import Store
from benchmarks.claims import parser
from benchmarks.serving.wrk import PROGRAM, Call, Speed, measure
from models_store.objects.store import open_store
from models_store.settings import Settings
from tests.app.support.worker import Worker
from tests.security.api_process import api_process
from tests.support.services import running_redis

CONNECTIONS = 16
STREAMS = 100
EDITS = 20
MEGABYTE = 2**20
UNLIMITED = {
    "SCALPEL_LIMIT_REQUESTS_PER_SECOND": "1000000",
    "SCALPEL_LIMIT_REQUEST_BURST": "1000000",
    "SCALPEL_LIMIT_QUEUED_EDITS": "1000000",
}
EDIT = (
    '{"base_model": "pico", "behavior": "negativity", "method": {"type": "bias"}, '
    '"effort": "quick"}'
)


@contextlib.contextmanager
def bare_api(folder: Path, bodies: Mapping[str, bytes]) -> Iterator[str]:
    """The bare routes in a process of their own; yields its URL."""
    for name, body in bodies.items():
        (folder / name).write_bytes(body)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.serving.bare_api", str(folder), str(port)],
    )
    try:
        wait_for(f"{url}/v1/edits", process)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    """Return at the first good response; asks every two milliseconds."""
    with httpx.Client(trust_env=False) as client:
        while process.poll() is None:
            with contextlib.suppress(httpx.HTTPError):
                if client.get(url).is_success:
                    return
            time.sleep(0.002)
    raise AssertionError(f"the server at {url} has ended")


def finished_edits(settings: Settings, url: str) -> list[str]:
    """Make edits that have ended; their ids."""
    store = Store.over(open_store(settings), settings)
    with (
        contextlib.closing(redis.Redis.from_url(settings.redis_url)) as client,
        httpx.Client(base_url=url, trust_env=False) as http,
    ):
        worker = Worker(store, client)
        worker.register("pico")
        made = []
        for _ in range(EDITS):
            answer = http.post("/v1/edits", content=EDIT, headers={"Content-Type": JSON})
            made.append(answer.raise_for_status().json()["id"])
            worker.claim(made[-1])
            worker.succeed(made[-1], points=dict.fromkeys(range(5), b""))
    return made


JSON = "application/json"


@contextlib.contextmanager
def open_streams(url: str, edit: str) -> Iterator[None]:
    """Many clients that follow an edit meanwhile."""
    sockets = []
    for _ in range(STREAMS):
        stream = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
        stream.sendall(
            f"GET /v1/edits/{edit}/events HTTP/1.1\r\nHost: localhost\r\n"
            "Accept: text/event-stream\r\n\r\n".encode()
        )
        assert b" 200 " in stream.recv(4096)
        sockets.append(stream)
    try:
        yield
    finally:
        for stream in sockets:
            stream.close()


def side_by_side(
    ours: str, bare: str, call: Call, folder: Path, seconds: int, repeats: int
) -> tuple[Speed, Speed]:
    """Medians of the API and of the bare route, measured alternately."""
    pairs = [
        tuple(
            measure(url, call, folder, connections=CONNECTIONS, seconds=seconds)
            for url in (ours, bare)
        )
        for _ in range(repeats)
    ]
    first, second = (
        Speed(
            *(
                statistics.median(getattr(speed, name) for speed in speeds)
                for name in ("per_second", "p50", "p99")
            )
        )
        for speeds in zip(*pairs, strict=True)
    )
    return first, second


def main() -> int:
    options = parser(__doc__ or "")
    options.add_argument("--seconds", type=int, default=2, help="of each measurement")
    options.add_argument("--repeats", type=int, default=3)
    given = options.parse_args()
    if shutil.which(PROGRAM) is None:
        print(f"serving.api: skipped, there is no {PROGRAM}", file=sys.stderr)
        return 0
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory(prefix="scalpel-api-") as name:
        folder = Path(name)
        with running_redis() as server, api_process(folder, server.url, **UNLIMITED) as api:
            settings = Settings(data=folder / "data", redis_url=server.url)
            edits = finished_edits(settings, api.url)
            with httpx.Client(base_url=api.url, trust_env=False) as client:
                queued = client.post(
                    "/v1/edits", content=EDIT, headers={"Content-Type": JSON}
                ).json()
                read = Call("GET", f"/v1/edits/{edits[0]}")
                waiting = Call("GET", f"/v1/edits/{queued['id']}")
                listed = Call("GET", "/v1/edits?limit=20")
                create = Call("POST", "/v1/edits", EDIT, keyed=True)
                bodies = {
                    "read": client.get(read.path).content,
                    "list": client.get(listed.path).content,
                    "create": client.get(waiting.path).content,
                }
            with bare_api(folder, bodies) as bare:
                for what, call in (
                    ("read", read),
                    ("waiting", waiting),
                    ("list", listed),
                    ("create", create),
                ):
                    ours, other = side_by_side(
                        api.url, bare, call, folder, given.seconds, given.repeats
                    )
                    print(what, ours, other, ours.per_second / other.per_second, flush=True)
                with open_streams(api.url, queued["id"]):
                    ours, other = side_by_side(
                        api.url, bare, read, folder, given.seconds, given.repeats
                    )
                    print("streams", ours, other, ours.per_second / other.per_second, flush=True)
            print(api.memory / MEGABYTE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
