"""A receiver of webhooks over real HTTP, which checks signatures as the library for it does."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook


@dataclass(frozen=True)
class Message:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def said(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.body)
        return said

    @property
    def event(self) -> dict[str, Any]:
        event: dict[str, Any] = self.said["data"]
        return event

    @property
    def type(self) -> str:
        return str(self.said["type"])

    def check(self, secret: str) -> None:
        """Raise unless it is signed with the secret."""
        Webhook(secret).verify(self.body, self.headers)


@dataclass
class Receiver:
    """Remembers what it got; `answer` says with which status each is answered."""

    url: str = ""
    got: list[Message] = field(default_factory=list)
    taken: list[Message] = field(default_factory=list)
    """Those that were answered with 200."""
    answer: Callable[[Message], int] = lambda message: 200
    """May sleep; -1: hang up."""

    def wait_for(self, question: Callable[[], Any], seconds: float = 20.0) -> None:
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            if question():
                return
            time.sleep(0.02)
        raise AssertionError([(message.id, message.type) for message in self.got])

    def wait_for_taken(self, count: int, seconds: float = 20.0) -> list[Message]:
        self.wait_for(lambda: len(self.taken) >= count, seconds)
        return self.taken

    def types_of(self, edit_id: str) -> list[str]:
        """Types of the events of an edit that were taken, each counted once, in their order."""
        seen = {
            message.id: message.type
            for message in self.taken
            if message.event.get("edit_id") == edit_id
        }
        return list(seen.values())


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        if len(body) < length:
            return  # whoever sent it died meanwhile
        headers = {name.lower(): value for name, value in self.headers.items()}
        message = Message(self.path, headers, body)
        receiver = self.server.receiver
        receiver.got.append(message)
        status = receiver.answer(message)
        if status < 0:
            self.close_connection = True
            return
        if status == 200:
            receiver.taken.append(message)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, receiver: Receiver, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.receiver = receiver

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A sender may hang up."""


@contextlib.contextmanager
def running_receiver(port: int = 0) -> Iterator[Receiver]:
    receiver = Receiver()
    server = _Server(receiver, port)
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
