"""A generator that says what it is told to, over real HTTP."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import redis

from models_store.live import keys as redis_keys
from models_store.live.heartbeats import signed

Lines = list[dict[str, Any]]


def echo(request: dict[str, Any]) -> Lines:
    """Each choice says which variant it is of, in two pieces."""
    lines: Lines = []
    for row, prompt in enumerate(request["prompts"]):
        name = request["variants"][prompt["variant"]]["name"]
        for number in range(request["n"]):
            index = row * request["n"] + number
            lines.append({"type": "delta", "index": index, "text": "I am "})
            lines.append({"type": "delta", "index": index, "text": name})
            end = {"type": "finish", "index": index, "finish_reason": "stop"}
            lines.append({**end, "prompt_tokens": 5, "completion_tokens": 7})
    return lines


@dataclass
class FakeGenerator:
    """What came in, and how it is answered."""

    name: str
    token: str = "a shared secret"
    answer: Callable[[dict[str, Any]], Lines] = echo
    status: int = 200
    refusal: dict[str, Any] = field(default_factory=dict)
    pause: float = 0.0
    """Seconds between lines."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    broken_off: threading.Event = field(default_factory=threading.Event)
    """Set when the client left before the answer was complete."""
    url: str = ""

    def beat(
        self,
        client: redis.Redis,
        *,
        busy: int = 0,
        base_models: tuple[str, ...] = (),
        **more: object,
    ) -> None:
        heartbeat = {"name": self.name, "url": self.url, "busy": busy, "pid": 1, "at": time.time()}
        value = json.dumps({**heartbeat, "base_models": list(base_models), **more})
        key = redis_keys.GENERATORS + self.name
        client.set(key, signed(self.token, key, value.encode()))


@contextlib.contextmanager
def running_generator(name: str = "generator-1") -> Iterator[FakeGenerator]:
    fake = FakeGenerator(name)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            fake.requests.append(body)
            fake.tokens.append(self.headers.get("Authorization"))
            self.send_response(fake.status)
            self.end_headers()
            if fake.status != 200:
                self.wfile.write(json.dumps(fake.refusal).encode())
                return
            try:
                for line in fake.answer(body):
                    self.wfile.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
                    self.wfile.flush()
                    time.sleep(fake.pause)
            except OSError:
                fake.broken_off.set()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
