"""How much is left of a tenant's limits, as the answer to a request tells it.

The headers are those of draft-ietf-httpapi-ratelimit-headers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextvars import ContextVar

from starlette.datastructures import MutableHeaders

from models_store.errors import Standing

_told: ContextVar[dict[str, Standing]] = ContextVar("told")
"""What the answer to the request that is being answered will tell, by the name of the limit."""


def begin() -> dict[str, Standing]:
    """A request begins; what is put in here until its answer begins is told there."""
    told: dict[str, Standing] = {}
    _told.set(told)
    return told


def tell(standing: Standing | None) -> None:
    """Let the answer say how far a limit is used up."""
    told = _told.get(None)
    if standing is not None and told is not None:
        told[standing.name] = standing


def write_headers(headers: MutableHeaders, told: Iterable[Standing]) -> None:
    """`RateLimit-Policy`, the limits, and `RateLimit`, what is left of them."""
    policies, left = [], []
    for one in told:
        window = "" if one.window is None else f";w={math.ceil(one.window)}"
        until = "" if one.full_in is None else f";t={math.ceil(one.full_in)}"
        policies.append(f'"{one.name}";q={one.size}{window}')
        left.append(f'"{one.name}";r={one.left}{until}')
    if policies:
        headers["RateLimit-Policy"] = ", ".join(policies)
        headers["RateLimit"] = ", ".join(left)
