"""Queries are read as strictly as bodies: a filter with a slip of the pen in its name would
otherwise select everything.
"""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from models_store.errors import Malformed

_KEY = "[key]"
_MOST = 100


async def check_query(request: Request) -> None:
    """Of every call that is not OpenAI's, whose clients may add what they like.

    Raises:
        Malformed: the query has a parameter that the call has not, or too many.
    """
    if not request.query_params:
        return
    if len(request.query_params.multi_items()) > _MOST:
        raise Malformed(f"a query has at most {_MOST} parameters", code="bad_request")
    route = request.scope["route"]
    assert isinstance(route, APIRoute)
    names = sorted(set(_names(route.dependant)))
    for name in request.query_params:
        if name not in names and not (name.endswith("]") and _family(name) in names):
            there = ", ".join(names) or "none"
            raise Malformed(
                f"there is no query parameter {name[:100]!r} here, but {there}", code="bad_request"
            )


def _family(name: str) -> str:
    """`metadata[key]` for `metadata[team]`."""
    return name.partition("[")[0] + _KEY


def _names(dependant: Dependant) -> Iterator[str]:
    yield from (field.alias for field in dependant.query_params)
    for below in dependant.dependencies:
        yield from _names(below)
