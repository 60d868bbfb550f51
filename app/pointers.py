"""What pydantic finds wrong with a body, said with JSON pointers (RFC 6901) into that body."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from models_store.errors import FieldError

_MAX_ERRORS = 100
_MAX_DETAIL = 500


def field_errors(problems: Sequence[Mapping[str, Any]], body: Any) -> list[FieldError]:
    """One error a field, the first of each; `problems` as pydantic lists them."""
    found: dict[str, FieldError] = {}
    for problem in problems:
        path = _path(problem["loc"], body, missing=problem["type"] == "missing")
        pointer = pointer_of(path)
        detail = str(problem["msg"]).removeprefix("Value error, ")
        if path:
            detail = f"{'.'.join(map(str, path))}: {detail}"
        found.setdefault(pointer, FieldError(pointer, problem["type"], detail[:_MAX_DETAIL]))
        if len(found) == _MAX_ERRORS:
            break
    return list(found.values())


def pointer_of(path: Iterable[Any]) -> str:
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)


def _path(location: Sequence[Any], body: Any, *, missing: bool) -> list[Any]:
    """The steps of a location that exist in the body, and the field that is missing from it.

    The rest are names of alternatives that pydantic has tried, which mean nothing to a client.
    """
    steps = list(location[1:] if location and location[0] == "body" else location)
    path: list[Any] = []
    value = body
    for number, step in enumerate(steps):
        if (isinstance(value, dict) and step in value) or (
            isinstance(value, list) and isinstance(step, int) and step < len(value)
        ):
            value = value[step]
            path.append(step)
        elif missing and number == len(steps) - 1:
            path.append(step)
    return path
