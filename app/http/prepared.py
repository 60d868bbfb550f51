"""Responses that are the same for everybody: made once, sent as bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from cachetools import LRUCache
from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool

from app.http.files import matches

_MOST = 64


class Prepared:
    """Responses by name, and of each name those for the last `_MOST` places."""

    def __init__(self) -> None:
        self._by_name: dict[str, LRUCache[str, tuple[bytes, dict[str, str]]]] = {}

    async def response(
        self, request: Request, name: str, make: Callable[[], Response], at: str = ""
    ) -> Response:
        """The response of that name, made in a thread if it is not there; 304 to those who have it.

        Args:
            at: what else it depends on.
        """
        of_name = self._by_name.setdefault(name, LRUCache(_MOST))
        if at not in of_name:
            made = await run_in_threadpool(make)
            body = bytes(made.body)
            headers = {key: made.headers[key] for key in made.headers if key != "content-length"}
            etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            of_name[at] = body, {**headers, "etag": etag, "cache-control": "no-cache"}
        body, headers = of_name[at]
        if matches(request.headers.get("if-none-match"), headers["etag"]):
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers)


def prepared(request: Request) -> Prepared:
    """Those of the application."""
    made = request.app.state.prepared
    assert isinstance(made, Prepared)
    return made
