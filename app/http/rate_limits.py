"""What is left of a tenant's limits, for the headers of a response.

The headers are those of draft-ietf-httpapi-ratelimit-headers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextvars import ContextVar

from models_store.errors import LimitUse

_reported: ContextVar[dict[str, LimitUse]] = ContextVar("reported")
"""Of the present request, by the name of the limit."""


def begin() -> dict[str, LimitUse]:
    """A request begins; what is put in here goes into the headers of its response."""
    reported: dict[str, LimitUse] = {}
    _reported.set(reported)
    return reported


def report(use: LimitUse | None) -> None:
    """Let the response show how far a limit is used up."""
    reported = _reported.get(None)
    if use is not None and reported is not None:
        reported[use.name] = use


def headers_of(reported: Iterable[LimitUse]) -> list[tuple[bytes, bytes]]:
    """`RateLimit-Policy`, the limits, and `RateLimit`, what is left of them."""
    policies, left = [], []
    for use in reported:
        window = "" if use.window is None else f";w={math.ceil(use.window)}"
        until = "" if use.full_in is None else f";t={math.ceil(use.full_in)}"
        policies.append(f'"{use.name}";q={use.size}{window}')
        left.append(f'"{use.name}";r={use.left}{until}')
    if not policies:
        return []
    return [
        (b"ratelimit-policy", ", ".join(policies).encode()),
        (b"ratelimit", ", ".join(left).encode()),
    ]
