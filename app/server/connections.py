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

import httptools
import structlog
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from app.http.errors import problem
from app.http.openapi import PROBLEM_TYPE
from models_store.settings import Settings

_log = structlog.get_logger()

MAX_HEADER_BYTES = 32 * 1024
_PIECE_BYTES = 4 * 1024
"""Parsed at a time, so that what is wrong or too much is noticed before all of it was parsed."""
_BODY_PIECE_BYTES = 64 * 1024
"""The same of a body in chunks."""
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


class _Flow(FlowControl):
    """Reads nothing more while some of what was read has yet to be parsed."""

    behind = False

    def resume_reading(self) -> None:
        if not self.behind:
            super().resume_reading()


def _new_parser(protocol: HttpToolsProtocol) -> httptools.HttpRequestParser:
    """As uvicorn makes one."""
    parser = httptools.HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    flow: _Flow

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        assert isinstance(self.server_state, Connections)
        self._all = self.server_state
        self._settings = self._all.settings
        self._unparsed = b""
        """Of requests after one that has no response yet."""
        self._headers_since: float | None = None
        """Since when a request is awaited of which nothing but a part may have come."""
        self._in_headers = False
        self._header_bytes = 0
        self._in_body = False
        """A body is on its way, of a request that may have been answered already."""
        self._receiving: RequestResponseCycle | None = None
        self._body_since = 0.0
        self._body_bytes = 0
        self._wire_bytes = 0
        self._left = 0
        """Bytes to come of a body that says how long it is."""
        self._unread_since: float | None = None
        self._closing_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport)
        self._headers_since = self.loop.time()
        if len(self.connections) > self._all.most and not self._all.make_room():
            self._refuse(503, "overloaded", "too many connections are open: try again")
            return
        self._all.idle[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.idle.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._headers_since is None and self._is_idle and not self._in_body:
            self._headers_since = self.loop.time()
        self._parse(self._unparsed + data if self._unparsed else data)

    def _parse(self, data: bytes) -> None:
        """Parse a piece at a time, up to a request that has to wait for a response before it."""
        at = 0
        while at < len(data) and not self.pipeline and not self.transport.is_closing():
            if self._left and self._is_idle:
                at += self._skip(len(data) - at)
            else:
                most = _BODY_PIECE_BYTES if self._in_body else _PIECE_BYTES
                at += self._parse_piece(data[at : at + max(self._left, most)])
        self._unparsed = b"" if self.transport.is_closing() else data[at:]
        self.flow.behind = bool(self._unparsed)
        if self._unparsed:
            self.flow.pause_reading()

    def _skip(self, there: int) -> int:
        """Drop what came of a body whose request was answered without it; how many bytes."""
        count = min(self._left, there)
        self._left -= count
        self._count_body(count)
        if not self._left:
            self.parser = _new_parser(self)
            self.on_message_complete()
        return count

    def _parse_piece(self, piece: bytes) -> int:
        """Parse what one look at the bounds may let in; returns how many bytes were parsed."""
        parsed = len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            parsed = upgrade.args[0]  # there is nothing to upgrade to: the next request begins
        except httptools.HttpParserError:
            self.send_400_response("")
            return parsed
        if self._in_headers:
            self._header_bytes += parsed
            if self._header_bytes > MAX_HEADER_BYTES and self._is_idle:
                detail = f"the headers of a request may have at most {MAX_HEADER_BYTES} bytes"
                self._refuse(431, "headers_too_large", detail)
            elif self._header_bytes > MAX_HEADER_BYTES:
                self._give_up("the next one has too many headers")
        elif self._in_body:
            self._wire_bytes += parsed
            if self._wire_bytes > 2 * self._body_bytes + _CHUNKING_BYTES:
                self._give_up("its chunks are too small")
        return parsed

    def on_message_begin(self) -> None:
        self._in_headers, self._header_bytes = True, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_headers:  # and not after the body, where it would change the request
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            raise ValueError("a request has one Host header")
        self._unset_keepalive_if_required()  # it came with what was left of the one before
        super().on_headers_complete()
        self._in_headers, self._in_body = False, True
        self._headers_since = None
        self._all.idle.pop(self, None)
        self._body_bytes = self._wire_bytes = 0
        lengths = [value for name, value in self.headers if name == b"content-length"]
        self._left = int(lengths[0]) if len(lengths) == 1 else 0

    def on_body(self, body: bytes) -> None:
        self._left = max(0, self._left - len(body))
        super().on_body(body)
        self._count_body(len(body))

    def _count_body(self, count: int) -> None:
        self._body_bytes += count
        # Of a request that has been answered without it.
        if self._is_idle and self._body_bytes > self._settings.max_body_bytes + _DISCARDED_BYTES:
            self._give_up("its body does not end")

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()
        if self._is_idle:
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        self._headers_since = None
        super().on_response_complete()  # may begin with the next request
        if self._unparsed and not self.pipeline:
            self._parse(self._unparsed)
            self.flow.resume_reading()
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
        """Answer what is no HTTP."""
        if self._is_idle or (self._in_body and not self.cycle.response_started):
            self._refuse(400, "bad_request", "this is no HTTP/1.1 request")
        elif self._in_body:
            self.transport.close()
        else:
            self.cycle.keep_alive = False  # the response to the request before comes first

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _give_up(self, reason: str) -> None:
        _log.info("gave up a request", reason=reason, path=self.cycle.scope["path"])
        self.transport.abort()

    def _is_body_late(self, now: float) -> bool:
        if self.cycle is not self._receiving or self.flow.read_paused:
            # A new request, or one whose reader is slower than its client.
            self._receiving, self._body_since = self.cycle, now
        if not self._in_body:
            return False
        allowed = self._settings.body_seconds + self._body_bytes / _BODY_BYTES_PER_SECOND
        return now - self._body_since > allowed

    @staticmethod
    def _is_late(since: float | None, now: float, seconds: float) -> bool:
        return since is not None and now - since > seconds

    def _refuse(self, status: int, code: str, detail: str) -> None:
        """Answer without a request that could be routed, and close."""
        data = json.dumps(problem(status, code, detail)).encode()
        retry = "Retry-After: 5\r\n" if status == 503 else ""
        headers = (
            f"Content-Type: {PROBLEM_TYPE}\r\nContent-Length: {len(data)}\r\n"
            f"Connection: close\r\n{retry}\r\n"
        )
        self.transport.write(STATUS_LINE[status] + headers.encode() + data)
        self.transport.close()
