"""Connections to the API, bounded in number and in what a client may make the server wait for.

uvicorn ends a connection that is idle between two requests, and no other: one that sends half a
request, or leaves a response unread, would stay for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
from collections import OrderedDict
from typing import Any

import h11
import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from app.http.errors import problem
from app.http.openapi import PROBLEM_TYPE
from models_store.settings import Settings

_log = structlog.get_logger()

MAX_HEADER_BYTES = 32 * 1024
_RECEIVE_BYTES = 4 * 1024
"""Read at a time, so that no connection keeps the others waiting while it is taken apart."""
_BODY_BYTES_PER_SECOND = 16 * 1024
_CHUNKING_BYTES = 64 * 1024
"""That chunks may take beyond what is in them: of tiny ones each costs as much as a large one."""
_DISCARDED_BYTES = 64 * 2**20
"""Of a body that is too large: who is cut off while sending may never read why."""
_CLOSING_SECONDS = 5.0
_OTHER_FILES = 512
"""Left of those that the process may have open: for the store, Redis and generators."""


def allow_many_files() -> None:
    """Let this process have as many open files as the system allows it at all."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Connections(ServerState):
    """All connections of a server; those without a request by how long they have none."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.most = settings.max_connections
        if files != resource.RLIM_INFINITY:
            self.most = max(1, min(self.most, files - _OTHER_FILES))
        self.idle: OrderedDict[BoundedProtocol, None] = OrderedDict()

    def make_room(self) -> bool:
        """Close the connection that is idle for longest; False when all are at work."""
        if not self.idle:
            return False
        oldest, _ = self.idle.popitem(last=False)
        oldest.shutdown()
        return True

    def sweep(self, now: float) -> None:
        """End those whose client is too slow; `now` by the event loop's clock."""
        for connection in list(self.connections):
            if isinstance(connection, BoundedProtocol):
                connection.end_if_late(now)


class BoundedProtocol(H11Protocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        assert isinstance(self.server_state, Connections)
        self._all = self.server_state
        self._settings = self._all.settings
        self._headers_since: float | None = None
        """Since when a request is awaited of which nothing but a part may have come."""
        self._receiving: RequestResponseCycle | None = None
        self._body_since = 0.0
        self._body_bytes = 0
        self._wire_bytes = 0
        self._unread_since: float | None = None
        self._closing_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if hasattr(transport, "max_size"):
            transport.max_size = _RECEIVE_BYTES
        super().connection_made(transport)
        self._headers_since = self.loop.time()
        if len(self.connections) > self._all.most and not self._all.make_room():
            self._refuse(503, "overloaded", "too many connections are open: try again")
            return
        self._all.idle[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.idle.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        receiving = self._is_receiving
        if self._is_idle and not receiving and self._headers_since is None:
            self._headers_since = self.loop.time()
        there = len(self.cycle.body) if receiving else 0
        super().data_received(data)
        if self.cycle is not before:
            self._headers_since = None
            self._all.idle.pop(self, None)
            self._body_bytes = self._wire_bytes = 0
        elif receiving and self._is_idle:
            self._discarded(len(data))
        elif receiving:
            self._body_bytes += len(self.cycle.body) - there
            self._wire_bytes += len(data)
            if self._wire_bytes > 2 * self._body_bytes + _CHUNKING_BYTES:
                self._give_up("its chunks are too small")

    def on_response_complete(self) -> None:
        self._headers_since = None
        super().on_response_complete()  # may begin with the next request
        if self._is_idle and not self.transport.is_closing():
            self._all.idle[self] = None
            self._all.idle.move_to_end(self)

    def pause_writing(self) -> None:
        self._unread_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._unread_since = None
        super().resume_writing()

    def end_if_late(self, now: float) -> None:
        """End the connection if its client has kept the server waiting for too long."""
        if self.transport.is_closing():
            self._closing_since = self._closing_since or now
            if now - self._closing_since > _CLOSING_SECONDS:
                self.transport.abort()
        elif self._is_late(self._unread_since, now, self._settings.unread_seconds):
            self.transport.abort()
        elif self._is_body_late(now):
            self._give_up("its body did not come")
        elif self._is_late(self._headers_since, now, self._settings.header_seconds):
            seconds = self._settings.header_seconds
            self._refuse(408, "request_timeout", f"no whole request within {seconds:g} seconds")

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, or has more headers than can be taken."""
        if self.cycle is not None and self.cycle.response_started and not self._is_idle:
            self.transport.close()
        elif len(self.conn.trailing_data[0]) > MAX_HEADER_BYTES:
            detail = f"the headers of a request may have at most {MAX_HEADER_BYTES} bytes"
            self._refuse(431, "headers_too_large", detail)
        else:
            self._refuse(400, "bad_request", "this is no HTTP/1.1 request")

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    @property
    def _is_receiving(self) -> bool:
        """A body is on its way, of a request that may have been answered already."""
        return self.conn.their_state is h11.SEND_BODY

    def _discarded(self, count: int) -> None:
        """Bytes came that belong to a body whose request has been answered without them."""
        self._body_bytes += count
        if self._body_bytes > self._settings.max_body_bytes + _DISCARDED_BYTES:
            self._give_up("its body does not end")
        elif not self._is_receiving:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _give_up(self, reason: str) -> None:
        _log.info("gave up a request", reason=reason, path=self.cycle.scope["path"])
        self.transport.abort()

    def _is_body_late(self, now: float) -> bool:
        if self.cycle is not self._receiving or self.flow.read_paused:
            # A new request, or one whose reader is slower than its client.
            self._receiving, self._body_since = self.cycle, now
        if not self._is_receiving:
            return False
        allowed = self._settings.body_seconds + self._body_bytes / _BODY_BYTES_PER_SECOND
        return now - self._body_since > allowed

    @staticmethod
    def _is_late(since: float | None, now: float, seconds: float) -> bool:
        return since is not None and now - since > seconds

    def _refuse(self, status: int, code: str, detail: str) -> None:
        """Answer without a request that could be routed, and close."""
        data = json.dumps(problem(status, code, detail)).encode()
        headers = [
            ("Content-Type", PROBLEM_TYPE),
            ("Content-Length", str(len(data))),
            ("Connection", "close"),
        ]
        if status == 503:
            headers.append(("Retry-After", "5"))
        with contextlib.suppress(h11.LocalProtocolError):
            for event in (
                h11.Response(status_code=status, headers=headers),
                h11.Data(data=data),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
