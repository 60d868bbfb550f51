"""A Redis proxy that stops a process at the moment at which it reports a stage."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import struct
import threading
from pathlib import Path
from typing import Self


class Trap:
    """A proxy between editors and Redis, on a unix socket.

    While it is set for a stage, the first process that reports that stage is stopped (SIGSTOP)
    before it gets the reply: so it is in that stage, and stays there.
    """

    def __init__(self, target: Path, socket_path: Path) -> None:
        self.url = f"unix://{socket_path}"
        self._target = target
        self._pattern: bytes | None = None
        self._lock = threading.Lock()
        self._caught = threading.Event()
        self._pid = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(socket_path))
        self._listener.listen(64)
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._closed = True
        self._listener.close()

    def set(self, stage: str) -> None:
        """Stop the next process that reports this stage."""
        with self._lock:
            self._caught.clear()
            # The two arguments of HSET in Redis' protocol.
            self._pattern = f"$5\r\nstage\r\n${len(stage)}\r\n{stage}\r\n".encode()

    def clear(self) -> None:
        """Let all processes pass again."""
        with self._lock:
            self._pattern = None

    def caught(self, seconds: float = 60.0) -> int:
        """The process that was stopped, once one was."""
        assert self._caught.wait(seconds), "no process came to that stage"
        return self._pid

    def _accept(self) -> None:
        while not self._closed:
            with contextlib.suppress(OSError):
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid, _, _ = struct.unpack("3i", credentials)
        with client, socket.socket(socket.AF_UNIX) as server, contextlib.suppress(OSError):
            server.connect(str(self._target))
            with selectors.DefaultSelector() as selector:
                selector.register(client, selectors.EVENT_READ, server)
                selector.register(server, selectors.EVENT_READ, client)
                while True:
                    for key, _ in selector.select():
                        source, sink = key.fileobj, key.data
                        assert isinstance(source, socket.socket)
                        data = source.recv(1 << 16)
                        if not data:
                            return
                        if source is client:
                            self._look(data, pid)
                        sink.sendall(data)

    def _look(self, data: bytes, pid: int) -> None:
        with self._lock:
            if self._pattern is None or self._pattern not in data:
                return
            self._pattern = None
            os.kill(pid, signal.SIGSTOP)
            self._pid = pid
            self._caught.set()
