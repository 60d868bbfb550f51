"""A proxy on a port of its own that breaks connections as it is told."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Proxy:
    """Passes bytes on. Of each of the next connections, in order, so many bytes of the responses
    that `cuts` says; then it is reset. Connections beyond them are left alone."""

    url: str
    target: tuple[str, int]
    cuts: deque[int] = field(default_factory=deque)
    flipped: int | None = None
    """Which byte of each connection's responses is changed."""
    instead: deque[bytes] = field(default_factory=deque)
    """What the next requests, in order, are answered with in place of the server's responses."""
    requests: list[bytes] = field(default_factory=list)
    """What was sent, as far as the heads."""

    def serve(self, client: socket.socket) -> None:
        if self.instead:
            with client:
                self.requests.append(_whole_request(client))
                client.sendall(self.instead.popleft())
            return
        cut = self.cuts.popleft() if self.cuts else None
        with client, socket.create_connection(self.target) as server:
            back = threading.Thread(target=self._pass_back, args=(server, client, cut), daemon=True)
            back.start()
            with contextlib.suppress(OSError):
                while data := client.recv(65536):
                    if b" HTTP/1.1\r\n" in data:
                        self.requests.append(data)
                    server.sendall(data)
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_WR)
            back.join()

    def _pass_back(self, server: socket.socket, client: socket.socket, cut: int | None) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := bytearray(server.recv(4096)):
                if self.flipped is not None and passed <= self.flipped < passed + len(data):
                    data[self.flipped - passed] ^= 1
                if cut is not None and passed + len(data) > cut:
                    client.sendall(data[: cut - passed])
                    break
                client.sendall(data)
                passed += len(data)
            client.shutdown(socket.SHUT_RDWR)
            server.shutdown(socket.SHUT_RDWR)


def answer(status: str, kind: str = "application/json", body: bytes = b"{}") -> bytes:
    """A response after which the connection ends."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body


def _whole_request(client: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        received += client.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    missing = int(length[1]) - len(body) if length else 0
    while missing > 0:
        missing -= len(client.recv(65536))
    return received


@contextlib.contextmanager
def running_proxy(target: str) -> Iterator[Proxy]:
    parts = urlsplit(target)
    assert parts.hostname is not None
    assert parts.port is not None
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        proxy = Proxy(f"http://127.0.0.1:{port}", (parts.hostname, parts.port))

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=proxy.serve, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield proxy
        listener.shutdown(socket.SHUT_RDWR)
