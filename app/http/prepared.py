"""Responses that are the same for everybody: made once, sent as bytes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable

from cachetools import LRUCache
from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool

from app.http.files import matches

_MOST = 64
_Prepared = tuple[bytes, dict[str, str]]
"""A body and its headers."""


class Prepared:
    """Responses by name, and of each name those for the last `_MOST` places."""

    def __init__(self) -> None:
        self._by_name: dict[str, LRUCache[str, _Prepared]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        """By name: many may ask at once for what is not there."""

    async def response(
        self, request: Request, name: str, make: Callable[[], Response], at: str = ""
    ) -> Response:
        """The response of that name, made in a thread if it is not there; 304 to those who have it.

        Args:
            at: what else it depends on.
        """
        of_name = self._by_name.setdefault(name, LRUCache(_MOST))
        prepared = of_name.get(at)
        if prepared is None:
            async with self._locks.setdefault(name, asyncio.Lock()):
                prepared = of_name.get(at)
                if prepared is None:
                    prepared = of_name[at] = _as_bytes(await run_in_threadpool(make))
        body, headers = prepared
        if matches(request.headers.get("if-none-match"), headers["etag"]):
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers)


def _as_bytes(made: Response) -> _Prepared:
    body = bytes(made.body)
    headers = {name: made.headers[name] for name in made.headers if name != "content-length"}
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    return body, {**headers, "etag": etag, "cache-control": "no-cache"}


def prepared(request: Request) -> Prepared:
    """Those of the application."""
    made = request.app.state.prepared
    assert isinstance(made, Prepared)
    return made
