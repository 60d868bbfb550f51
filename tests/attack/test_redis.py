"""Somebody can write to Redis: nothing of theirs runs, and no token or prompt reaches them."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import shutil
import subprocess
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from rq import Queue
from rq.serializers import JSONSerializer

from app.cli.embedded_redis import find_server
from models_store.live import keys as redis_keys
from models_store.live.heartbeats import signed
from models_store.live.queue import FUNCTION
from models_store.settings import Settings
from tests.support.services import RedisServer, api_settings, running_api
from tests.system.faults.harness import Cluster

ID = "edit_01ARZ3NDEKTSV4RRFFQ69G5FAV"
QUEUE = redis_keys.queue("cpu")


@pytest.fixture
def cluster(tmp_path: Path, redis_server: RedisServer) -> Iterator[Cluster]:
    settings = api_settings(tmp_path, redis_server, internal_token="a shared secret")
    cluster = Cluster(settings, redis_server, tmp_path)
    yield cluster
    cluster.stop()


def forged_jobs(proof: Path) -> Iterator[Callable[[Queue, str], None]]:
    """Ways to put a job into the queue that would create `proof`, or break who reads it."""
    touch = {"func": "pathlib.Path.touch", "args": [str(proof)]}
    calls: list[dict[str, Any]] = [
        {"func": "os.system", "args": [f"touch {proof}"]},
        {"func": "subprocess.check_call", "args": [["touch", str(proof)]]},
        {"func": "builtins.exec", "args": [f"open({str(proof)!r}, 'w')"]},
        touch,
        {"func": f"{FUNCTION}.__globals__", "args": []},
        {"func": FUNCTION, "args": []},
        {"func": FUNCTION, "args": ["edit", "default"]},
        {"func": FUNCTION, "args": ["edit", "default", ID, "more"]},
        {"func": FUNCTION, "args": ["touch", "default", ID]},
        {"func": FUNCTION, "args": ["edit", "../..", ID]},
        {"func": FUNCTION, "args": ["edit", "default", "../../etc/passwd"]},
        {"func": FUNCTION, "args": ["edit", ["default"], {"id": ID}]},
        {"func": FUNCTION, "args": ["edit", "default", ID], "kwargs": {"more": 1}},
    ]
    for call in calls:
        yield lambda queue, id, call=call: queue.enqueue_call(**call, job_id=id)  # type: ignore[misc]
    callbacks = ("success_callback", "failure_callback", "stopped_callback")
    for name, args in itertools.product(callbacks, (["edit", "default", ID], [])):
        yield lambda queue, id, name=name, args=args: write(  # type: ignore[misc]
            queue, id, {f"{name}_name": "os.system"}, args=args
        )
    fields: list[dict[str, Any]] = [
        {"webhooks": json.dumps([{"url": "http://127.0.0.1:9/"}])},
        {"data": b""},
        {"data": zlib.compress(b"0" * 10**8)},
        {"data": b"cos\nsystem\n(S'touch'\ntR."},
        {"data": zlib.compress(b"cos\nsystem\n(S'touch'\ntR.")},
        {"data": zlib.compress(b"[" * 10_000)},
        {"data": zlib.compress(b"{}")},
        {"data": zlib.compress(json.dumps([FUNCTION, "an instance", [], {}]).encode())},
        {"created_at": "yesterday"},
        {"timeout": "for ever"},
        {"timeout": "-1"},
        {"status": "wonderful"},
        {"result_ttl": "x"},
        {"meta": b"\xff"},
        {"retries_left": "9", "retry_intervals": "[0]"},
        {"repeats_left": "9", "repeat_intervals": "[0]"},
        {"dependency_ids": json.dumps(["other"])},
        {"group_id": "x"},
    ]
    for extra in fields:
        yield lambda queue, id, extra=extra: write(queue, id, extra)  # type: ignore[misc]
    kinds: list[Callable[[redis.Redis, str], object]] = [
        lambda client, key: client.set(key, "a string"),
        lambda client, key: client.rpush(key, "a list"),
        lambda client, key: client.hset(key, "only", "a field"),
        lambda client, key: None,
    ]
    for make in kinds:
        yield lambda queue, id, make=make: (  # type: ignore[misc]
            make(queue.connection, f"rq:job:{id}"),
            queue.connection.rpush(queue.key, id),
        )


def write(queue: Queue, id: str, extra: dict[str, Any], args: Any = None) -> None:
    """A job as RQ writes them, with some fields changed."""
    data: list[Any] = [FUNCTION, None, ["edit", "default", ID] if args is None else args, {}]
    fields = {
        "data": zlib.compress(json.dumps(data).encode()),
        "created_at": "2026-01-01T00:00:00.000000Z",
        "origin": queue.name,
        "status": "queued",
        **extra,
    }
    queue.connection.hset(f"rq:job:{id}", mapping=fields)
    queue.connection.rpush(queue.key, id)


COMMANDS = [
    b"",
    b"nonsense",
    b"[]",
    b"{}",
    b'{"command": "shutdown"}',
    b'{"command": "kill-horse"}',
    b'{"command": "stop-job", "job_id": "x"}',
    b'{"command": "stop-attempt", "pid": "1"}',
    b'{"command": "stop-attempt", "pid": 1}',
]


@pytest.mark.slow
@pytest.mark.system
def test_an_editor_runs_nothing_that_is_forged_and_goes_on_with_its_work(
    cluster: Cluster, tmp_path: Path, pico_folder: Path
) -> None:
    (editor,) = cluster.wait_for_editors()
    queue = Queue(QUEUE, connection=cluster.client, serializer=JSONSerializer)
    proof = tmp_path / "proof"
    ways = list(forged_jobs(proof))
    assert len(ways) >= 40
    for number, way in enumerate(ways):
        way(queue, f"forged-{number}")
    for command in COMMANDS:
        cluster.client.publish(f"rq:pubsub:{editor.name}", command)
    assert cluster.register("pico", pico_folder).status == "succeeded"
    assert not proof.exists()
    assert [seen.pid for seen in cluster.living_editors()] == [editor.pid], "it was restarted"


class Listener:
    """A server of the attacker's, and what it was sent."""

    def __init__(self) -> None:
        self.received: list[str] = []
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                listener.received.append(str(self.headers))
                self.send_error(500)

            do_GET = do_POST

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.mark.parametrize("token", ["a shared secret", ""])
def test_no_token_and_no_prompt_is_sent_to_an_address_that_is_forged(
    tmp_path: Path, redis_server: RedisServer, token: str
) -> None:
    """Without a token everybody can sign, but only loopback addresses are believed."""
    listener = Listener()
    url = listener.url if token else listener.url.replace("127.0.0.1", "attacker.example")
    value = json.dumps({"name": "forged", "url": url, "base_models": ["pico"]}).encode()
    guesses = ["", "guess", token.upper(), f"{token} "] if token else [""]
    settings = api_settings(tmp_path, redis_server, internal_token=token)
    with running_api(settings) as api:
        for number, guess in enumerate(guesses):
            key = f"{redis_keys.GENERATORS}forged-{number}"
            api.services.live.client.set(key, signed(guess, key, value))
        for number, raw in enumerate((value, b" " + value, b"0" * 64 + b" " + value)):
            api.services.live.client.set(f"{redis_keys.GENERATORS}raw-{number}", raw)
        assert api.services.live.generators() == []
        body = {"model": "pico", "prompt": "a prompt of a tenant"}
        answer = api.http.post("/v1/completions", json=body)
        assert answer.status_code in (404, 503)
    listener.close()
    assert listener.received == []


COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"


@pytest.fixture
def guarded_redis(tmp_path: Path) -> Iterator[str]:
    """Redis as `docker-compose.yml` starts it, with the password `secret`; its address."""
    service = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]["redis"]
    options = [re.sub(r"\$\{.*\}", "secret", option) for option in service["command"][1:]]
    folder = Path(tempfile.mkdtemp(prefix="sc-", dir="/tmp"))  # the path of a socket is short
    socket = folder / "redis.sock"
    place = ["--port", "0", "--unixsocket", str(socket), "--dir", str(folder)]
    with (tmp_path / "redis.log").open("wb") as log:
        server = subprocess.Popen([find_server(), *options, *place], stdout=log, stderr=log)
    try:
        while not socket.exists():
            assert server.poll() is None, (tmp_path / "redis.log").read_text()
            time.sleep(0.01)
        yield f"unix://{socket}?password=secret"
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.system
def test_with_the_password_of_compose_all_parts_work_and_nothing_else_does(
    tmp_path: Path, guarded_redis: str, pico_folder: Path
) -> None:
    nobody = redis.Redis.from_url(guarded_redis.partition("?")[0])
    with contextlib.closing(nobody), pytest.raises(redis.AuthenticationError):
        nobody.ping()
    with contextlib.closing(redis.Redis.from_url(guarded_redis)) as somebody:
        denied = (
            "CONFIG GET dir",
            "FLUSHALL",
            "KEYS *",
            "SET other 1",
            "PUBLISH other 1",
            "ACL LIST",
        )
        for command in denied:
            with pytest.raises(redis.exceptions.NoPermissionError):
                somebody.execute_command(*command.split())  # type: ignore[no-untyped-call]
    settings = Settings(
        data=tmp_path / "data",
        cache=tmp_path / "cache",
        redis_url=guarded_redis,
        default_base_model=False,
        internal_token="a shared secret",
    )
    with running_api(settings, with_keeper=True) as api:
        cluster = Cluster(settings, RedisServer(tmp_path), tmp_path)
        try:
            assert cluster.register("pico", pico_folder).status == "succeeded"
            parts = api.http.get("/readyz").json()["parts"]
            assert {parts[name]["status"] for name in ("redis", "keeper", "editors")} == {"ok"}
        finally:
            cluster.stop()
