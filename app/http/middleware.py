"""Around every request: an id, a bound on its body, and headers that say what is left of the
tenant's limits; and HEAD, wherever there is GET.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http import rate_limits
from app.http.errors import error_response
from models_store.errors import TooLarge
from models_store.settings import Settings

_REQUEST_ID_HEADER = b"x-request-id"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
PROMPT_BODY_BYTES = 4 * 2**20
"""Of a body with prompts: little else is done while a large one is parsed, and prompts that a model
could read are smaller."""
_FORM_BYTES = 2**20
"""What a form has beside its files."""


def _new_id() -> str:
    """Not a secret, so the system's randomness, for which threads would wait, is not needed."""
    return f"req_{random.getrandbits(96):024x}"


class RequestMiddleware:
    """Echoes or makes `X-Request-Id`, and refuses bodies over the limit with 413.

    A body that says how long it is is refused unread; one that doesn't, once it has passed the
    limit.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else _new_id()
        scope.setdefault("state", {})["request_id"] = request_id
        received, most = 0, self._most_bytes(scope["path"], headers.get("content-type", ""))
        reported = rate_limits.begin()

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > most:
                raise _too_large(most)
            return message

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *(header for header in message["headers"] if header[0] != _REQUEST_ID_HEADER),
                    (_REQUEST_ID_HEADER, request_id.encode()),
                    *rate_limits.headers_of(reported.values()),
                ]
            await send(message)

        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > most:
            await error_response(scope, _too_large(most))(scope, receive, named)
            return
        await self.app(scope, bounded, named)

    def _most_bytes(self, path: str, content_type: str) -> int:
        most = self._settings.max_body_bytes
        is_form = content_type.lower().startswith("multipart/form-data")
        if path == "/v1/imports" and is_form:  # goes to disk
            return self._settings.max_import_bytes + _FORM_BYTES
        if path == "/v1/files" and is_form:  # likewise
            return most + _FORM_BYTES
        prompts = path.endswith(("/completions", "/compare"))
        return min(PROMPT_BODY_BYTES, most) if prompts else most


def _too_large(most: int) -> TooLarge:
    return TooLarge(f"a body may have at most {most} bytes here")


class HeadMiddleware:
    """Answers HEAD as GET where no route does better; the server leaves the body out."""

    def __init__(self, app: ASGIApp, methods_at: Callable[[str], Collection[str]]) -> None:
        self.app = app
        self.methods_at = methods_at

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            there = self.methods_at(scope["path"])
            if "GET" in there and "HEAD" not in there:
                scope = {**scope, "method": "GET"}
        await self.app(scope, receive, send)
