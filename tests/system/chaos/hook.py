"""A receiver of webhooks that sometimes fails."""

from __future__ import annotations

import contextlib
import json
import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from models_store.schemas.records import FINAL
from tests.system.chaos.clients import Seen

_REFUSED_SHARE = 0.1

SETTINGS = {
    "SCALPEL_OUTGOING_ALLOW": "127.0.0.0/8",
    "SCALPEL_OUTGOING_HTTP": "true",
    "SCALPEL_WEBHOOK_RETRY_SECONDS": "0.2",
    "SCALPEL_WEBHOOK_TIMEOUT_SECONDS": "5",
}


class Hook:
    """Checks what it receives: each edit's events in order, with one end each."""

    def __init__(self, seen: Seen, seed: int) -> None:
        self.ended: set[str] = set()
        self._seen = seen
        self._random = random.Random(seed)
        self._newest: dict[str, int] = {}
        self._lock = threading.Lock()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(204 if hook._receive(json.loads(body)["data"]) else 500)
                self.end_headers()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/told"

    def _receive(self, event: dict[str, object]) -> bool:
        """Check an event; False for those that it refuses."""
        id, number = str(event["edit_id"]), int(str(event["id"]))
        with self._lock:
            if self._random.random() < _REFUSED_SHARE:
                return False
            newest = self._newest.get(id, 0)
            # The event before may come again, if its response was lost.
            if number < newest:
                self._seen.steps_back.append(f"{id} webhook event {number} after {newest}")
            self._newest[id] = max(number, newest)
            status = str(event["type"]).removeprefix("edit.")
            if status in FINAL:
                self.ended.add(id)
                self._seen.status("webhook", id, status)
        return True


@contextlib.contextmanager
def running_hook(seen: Seen, seed: int) -> Iterator[Hook]:
    hook = Hook(seen, seed)
    threading.Thread(target=hook.server.serve_forever, daemon=True).start()
    try:
        yield hook
    finally:
        hook.server.shutdown()
        hook.server.server_close()
