"""Responses that are the same for everybody: made once, sent as bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from cachetools import LRUCache
from fastapi import Request, Response

from app.http.files import matches

_MOST = 64


class Prepared:
    """Responses by name, the last `_MOST` of them."""

    def __init__(self) -> None:
        self._made: LRUCache[str, tuple[bytes, dict[str, str]]] = LRUCache(_MOST)

    def response(self, request: Request, name: str, make: Callable[[], Response]) -> Response:
        """The response of that name, made if it is not there; 304 to those who have it."""
        if name not in self._made:
            made = make()
            body = bytes(made.body)
            headers = {key: made.headers[key] for key in made.headers if key != "content-length"}
            etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            self._made[name] = body, {**headers, "etag": etag, "cache-control": "no-cache"}
        body, headers = self._made[name]
        if matches(request.headers.get("if-none-match"), headers["etag"]):
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers)


def prepared(request: Request) -> Prepared:
    """Those of the application."""
    made = request.app.state.prepared
    assert isinstance(made, Prepared)
    return made
