"""Reading JSON bodies: malformed ones differ from invalid ones; every wrong field is named."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from functools import partial
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError

from app.domain.accounts.in_flight import Kind
from app.http.errors import UnsupportedMediaType
from app.http.fields import fields_at
from app.http.pointers import field_errors, named, pointer_of
from app.request.auth import Principal, counted
from app.request.strict_input.json_shape import check_shape
from app.services import services
from models_store.errors import FieldError, InvalidRequest, Malformed

_SMALL_BYTES = 2**20
"""Of a body that is not worth counting once it is read."""
_LARGE = ThreadPoolExecutor(1, "large-bodies")
"""Where all other bodies are read, one after the other: requests go on between the steps of one."""
_MAX_DIGITS = 4_000
"""Of an integer; Python refuses to read one that is a little longer."""
T = TypeVar("T")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


class JsonRoute(APIRoute):
    """A route whose body is read strictly: no type is turned into another.

    The endpoint gets the validated model; the body as it came is `request.state.sent`. An endpoint
    with `directly` first has a look at the request without the framework; of one with `bounded` a
    tenant has so many under way, bodies that are on their way included.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()
        direct: Direct | None = getattr(self.endpoint, "direct", None)
        kind: Kind | None = getattr(self.endpoint, "bounded", None)
        if self.body_field is None:
            return handler if direct is None else _either(direct, handler)
        annotation: Any = self.body_field.field_info.annotation
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)

        async def read(request: Request) -> Response:
            # Before the body: a stranger's is not even read.
            who = await counted(request)
            require_type(request, "json")
            bounds = services(request).in_flight
            room = bounds.hold(who.tenant, kind) if kind is not None else nullcontext()
            with room, ExitStack() as held:
                # The framework validates what it finds in `_json`; an instance of the model passes
                # as it is.
                body = request._json = await read_json(request, who, held, adapter)
                response = await direct(request, body) if direct is not None else None
                return response if response is not None else await handler(request)

        return read


async def read_json(
    request: Request, who: Principal, held: ExitStack, adapter: TypeAdapter[T]
) -> T:
    """The body as the adapter's type; as it came it is `request.state.sent`.

    Args:
        held: counts the body as `arriving` does; closed early after a small one.

    Raises:
        QuotaExceeded: as `arriving`.
        InvalidRequest, Malformed, TooLarge: as `parse_json` and `validated`.
    """
    data = request._body = b"".join([piece async for piece in arriving(request, who, held)])
    body: T
    if len(data) < _SMALL_BYTES:
        request.state.sent, body = _read(adapter, data)
        held.close()  # what it takes from here on is no matter of its body
    else:
        loop = asyncio.get_running_loop()
        request.state.sent, body = await loop.run_in_executor(_LARGE, _read, adapter, data)
    return body


def _read(adapter: TypeAdapter[Any], data: bytes) -> tuple[Any, Any]:
    """The body as it came, and as the adapter's type."""
    sent = parse_json(data)
    return sent, validated(adapter, data, sent)


async def arriving(request: Request, who: Principal, held: ExitStack) -> AsyncGenerator[bytes]:
    """The pieces of a body, which count as the tenant's bytes under way until `held` is closed: at
    once what the body says that it has, or else each piece as it comes.

    Raises:
        QuotaExceeded: `rate_limited`, too much of the tenant's is under way.
    """
    bounds, length = services(request).in_flight, request.headers.get("content-length", "")
    if length.isdigit():
        held.enter_context(bounds.hold(who.tenant, "body-bytes", int(length)))
    async for piece in request.stream():
        if not length.isdigit():
            held.enter_context(bounds.hold(who.tenant, "body-bytes", len(piece)))
        yield piece


Direct = Callable[..., Awaitable[Response | None]]
"""From a request, and its body if there is one, to the response; None: the framework is needed."""
E = TypeVar("E", bound=Callable[..., Any])


def directly(direct: Direct) -> Callable[[E], E]:
    """Answer what is usual by `direct`, for calls that are made very often.

    The framework takes longer to find out what an endpoint depends on than these take in all. It
    still answers what `direct` leaves to it, and documents the endpoint.
    """

    def mark(endpoint: E) -> E:
        endpoint.direct = direct  # type: ignore[attr-defined]
        return endpoint

    return mark


def bounded(kind: Kind) -> Callable[[E], E]:
    """Count calls among what a tenant has under way, before their bodies are read: what is beyond
    the bound is refused for nearly nothing."""

    def mark(endpoint: E) -> E:
        endpoint.bounded = kind  # type: ignore[attr-defined]
        return endpoint

    return mark


def _either(
    direct: Direct, handler: Callable[[Request], Coroutine[Any, Any, Response]]
) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def answer(request: Request) -> Response:
        response = await direct(request)
        return response if response is not None else await handler(request)

    return answer


def content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def require_type(request: Request, subtype: str) -> None:
    """Raise `UnsupportedMediaType` unless the body says that it is of the type."""
    given = content_type(request)
    kind, _, given_subtype = given.partition("/")
    if kind != "application" or not (
        given_subtype == subtype or given_subtype.endswith(f"+{subtype}")
    ):
        raise UnsupportedMediaType(
            f"send the body as Content-Type: application/{subtype}, not {given or 'without one'}",
            headers={"Accept-Post": f"application/{subtype}"},
        )


def parse_json(data: bytes, name: str = "the body") -> Any:
    """The JSON value.

    Raises:
        Malformed: it is not JSON, nested too deeply, or an object has a key twice.
        TooLarge: it has too many values.
        InvalidRequest: a number is not finite, which JSON has no word for, or a text has half of
            a surrogate pair, which UTF-8 has none for.
    """
    odd = _SURROGATE_ESCAPE.search(data) is not None

    def number(text: str) -> float:
        nonlocal odd
        value = float(text)
        odd = odd or not math.isfinite(value)
        return value

    def integer(text: str) -> int | float:
        return int(text) if len(text) <= _MAX_DIGITS else number(text)

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) < len(pairs):
            (twice, _), *_ = Counter(key for key, _ in pairs).most_common(1)
            raise Malformed(f"{name} has the key {twice[:100]!r} twice in one object")
        return members

    check_shape(data, name)
    try:
        value = json.loads(
            data.decode("utf-8"),
            parse_float=number,
            parse_constant=number,
            parse_int=integer,
            object_pairs_hook=members,
        )
    except UnicodeDecodeError as error:
        raise Malformed(f"{name} is not UTF-8: {error.reason} at byte {error.start}") from None
    except json.JSONDecodeError as error:
        what = "is empty" if not data.strip() else f"is not JSON: {error}"
        raise Malformed(f"{name} {what}") from None
    except RecursionError:
        raise Malformed(f"{name} is nested too deeply") from None
    problems = _unfit(value) if odd else []
    if problems:
        raise InvalidRequest.of(problems)
    return value


def validated(adapter: TypeAdapter[Any], data: bytes, sent: Any) -> Any:
    """`data` as the adapter's type.

    Raises:
        InvalidRequest: with all wrong fields, up to a hundred.
        Malformed: it is nested too deeply.
    """
    try:
        return adapter.validate_json(data, strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False, include_context=False)
        if details[0]["type"] == "json_invalid":
            # Read once already, so it can only be nested more deeply than pydantic goes.
            raise Malformed("the body is nested too deeply") from None
        problems = field_errors(details, sent, partial(fields_at, adapter))
        raise InvalidRequest.of(problems) from None


def _unfit(value: Any) -> list[FieldError]:
    """What JSON's grammar lets through, but no text and no number can hold."""
    problems = []
    left: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    while left:
        path, item = left.pop()
        if isinstance(item, float) and not math.isfinite(item):
            problems.append((path, "finite_number", "must be a finite number"))
        elif isinstance(item, str) and _SURROGATE.search(item):
            problems.append(
                (path, "string_unicode", "has half of a surrogate pair (\\ud800-\\udfff)")
            )
        elif isinstance(item, dict):
            left += [((*path, _SURROGATE.sub("?", key)), inner) for key, inner in item.items()]
            left += [(path, key) for key in item]
        elif isinstance(item, list):
            left += [((*path, index), inner) for index, inner in enumerate(item)]
    problems.sort(key=str)
    return [
        FieldError(pointer_of(path), code, named(path, problem)) for path, code, problem in problems
    ]
