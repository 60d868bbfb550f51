"""What pydantic finds wrong with a body, said with JSON pointers (RFC 6901) into that body."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from models_store.errors import FieldError

_MAX_ERRORS = 100
_MAX_DETAIL = 500
_PYTHON = re.compile(r"^(Tuple|Dictionary) ")
_JSON = {"Tuple": "List", "Dictionary": "Object"}


def field_errors(problems: Sequence[Mapping[str, Any]], body: Any) -> list[FieldError]:
    """One error a field, the first of each; `problems` as pydantic lists them."""
    paths = [
        _path(problem["loc"], body, missing=problem["type"] == "missing") for problem in problems
    ]
    understood = _understood(problems, paths)
    errors: dict[str, FieldError] = {}
    for problem, path in zip(problems, paths, strict=True):
        if _is_alternative(problem, path) and tuple(path) in understood:
            continue
        pointer = pointer_of(path)
        detail = named(path, _message(problem))[:_MAX_DETAIL]
        errors.setdefault(pointer, FieldError(pointer, problem["type"], detail))
        if len(errors) == _MAX_ERRORS:
            break
    return list(errors.values())


def pointer_of(path: Iterable[Any]) -> str:
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)


def named(path: Sequence[Any], problem: str) -> str:
    """A problem, after the name of the field that has it."""
    return f"{'.'.join(map(str, path))}: {problem}" if path else problem


def _message(problem: Mapping[str, Any]) -> str:
    if problem["type"] == "extra_forbidden":
        return "there is no such field: leave it out"
    text = str(problem["msg"]).removeprefix("Value error, ")
    return _PYTHON.sub(lambda match: f"{_JSON[match[1]]} ", text)


def _understood(
    problems: Sequence[Mapping[str, Any]], paths: Sequence[list[Any]]
) -> set[tuple[Any, ...]]:
    """Fields whose value is of a type that one of its alternatives has."""
    fields = set()
    for problem, path in zip(problems, paths, strict=True):
        if not _is_alternative(problem, path):
            fields.add(tuple(path))
        fields.update(tuple(path[:length]) for length in range(len(path)))
    return fields


def _is_alternative(problem: Mapping[str, Any], path: Sequence[Any]) -> bool:
    """Whether it says that a value has not the type of one alternative, of several."""
    return problem["type"].endswith("_type") and len(path) < len(_steps(problem["loc"]))


def _steps(location: Sequence[Any]) -> Sequence[Any]:
    return location[1:] if location and location[0] == "body" else location


def _path(location: Sequence[Any], body: Any, *, missing: bool) -> list[Any]:
    """The steps of a location that exist in the body, and the field that is missing from it.

    The rest are names of alternatives that pydantic has tried, which mean nothing to a client.
    """
    steps = _steps(location)
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
