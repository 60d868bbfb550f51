"""A proxy before an S3 server that can fail in the ways in which such servers fail."""

from __future__ import annotations

import contextlib
import http.client
import random
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Trouble = Literal["500", "503", "stored, then 500", "cut", "silent"]
_SHARE = 0.7
"""Default share of requests that `trouble` hits."""
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that are killed in the middle; that is what the proxy is for."""


class S3Proxy:
    """Forwards requests, unless `trouble` makes it fail."""

    def __init__(self, target: str, seed: int = 0) -> None:
        self.trouble: Trouble | None = None
        self.share = _SHARE
        self._target = urlsplit(target).netloc
        self._random = random.Random(seed)
        self._closing = threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                proxy._serve(self)

            do_PUT = do_POST = do_DELETE = do_HEAD = do_GET

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        trouble = self.trouble if self._random.random() < self.share else None
        if trouble == "silent":
            while self.trouble == "silent" and not self._closing.is_set():
                time.sleep(0.05)
            handler.close_connection = True
            return
        if trouble in ("500", "503"):
            self._respond(handler, int(trouble), [], b"<Error><Code>InternalError</Code></Error>")
            return
        status, headers, data = self._forward(handler, body)
        if trouble == "stored, then 500" and handler.command in ("PUT", "POST", "DELETE"):
            self._respond(handler, 500, [], b"<Error><Code>InternalError</Code></Error>")
            return
        if trouble == "cut":
            handler.close_connection = True
            with contextlib.suppress(OSError):
                handler.wfile.write(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + data[:9]
                )
            return
        self._respond(handler, status, headers, data)

    def _forward(
        self, handler: BaseHTTPRequestHandler, body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        headers = {n: v for n, v in handler.headers.items() if n.lower() not in _HOP}
        connection = http.client.HTTPConnection(self._target, timeout=60)
        try:
            connection.request(handler.command, handler.path, body or None, headers)
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            connection.close()

    def _respond(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        headers: list[tuple[str, str]],
        data: bytes,
    ) -> None:
        length = str(len(data))
        handler.send_response_only(status)
        for name, value in headers:
            if name.lower() == "content-length" and handler.command == "HEAD":
                length = value
            if name.lower() not in _HOP:
                handler.send_header(name, value)
        if status != 204:
            handler.send_header("Content-Length", length)
        with contextlib.suppress(OSError):
            handler.end_headers()
            if handler.command != "HEAD":
                handler.wfile.write(data)


@contextlib.contextmanager
def running_proxy(target: str, seed: int = 0) -> Iterator[S3Proxy]:
    proxy = S3Proxy(target, seed)
    try:
        yield proxy
    finally:
        proxy.close()
