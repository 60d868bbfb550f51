"""What pydantic finds wrong with a body, said with JSON pointers (RFC 6901) into that body."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from app.http.fields import nearest
from models_store.errors import FieldError
from models_store.ids import IN_WORDS

_MAX_ERRORS = 100
_MAX_DETAIL = 500
_CODES = {
    "tuple_type": "list_type",
    "dict_type": "object_type",
    "model_type": "object_type",
    "model_attributes_type": "object_type",
}
"""Types of Python, as those of JSON."""
_WORDS = (
    (re.compile(r"^Value error, "), ""),
    (re.compile(r"^Field required$"), "is required"),
    (re.compile(r"^Input tag '(.*)' found using '(.*)' does not match any of the expected tags: "),
     r"\2 is '\1', which is none of "),
    (re.compile(r"^Unable to extract tag using discriminator '(.*)'$"), r"\1 is required in it"),
    (re.compile(r"^(Input|String|List|Tuple|Dictionary) should "), "must "),
    (re.compile(r"a valid (array|tuple|list)$"), "a list"),
    (re.compile(r" after validation(?=, not )"), ""),
)  # fmt: skip
_PATTERN = re.compile(r"^String should match pattern '(.*)'$", re.DOTALL)
_COUNTED = re.compile(r", not (\d+)$")
Known = Callable[[Sequence[Any]], Sequence[str]]
"""From the location of an object, as pydantic names it, to the fields that it may have."""


def field_errors(
    problems: Sequence[Mapping[str, Any]], body: Any, known: Known = lambda _: ()
) -> list[FieldError]:
    """One error a field, the first of each; `problems` as pydantic lists them."""
    paths = [
        _path(problem["loc"], body, missing=problem["type"] == "missing") for problem in problems
    ]
    understood = _understood(problems, paths)
    missing = defaultdict(list)
    for problem, path in zip(problems, paths, strict=True):
        if problem["type"] == "missing":
            missing[tuple(path[:-1])].append(str(path[-1]))
    errors: dict[str, FieldError] = {}
    for problem, path in zip(problems, paths, strict=True):
        if _is_alternative(problem, path) and tuple(path) in understood:
            continue
        if _follows_from_another(problem, path, body):
            continue
        pointer = pointer_of(path)
        if problem["type"] == "extra_forbidden":
            message = _no_such_field(problem, path, known, missing[tuple(path[:-1])])
        else:
            message = in_words(problem["msg"])
        detail = named(path, message)[:_MAX_DETAIL]
        code = _CODES.get(problem["type"], problem["type"])
        errors.setdefault(pointer, FieldError(pointer, code, detail))
        if len(errors) == _MAX_ERRORS:
            break
    return list(errors.values())


def pointer_of(path: Iterable[Any]) -> str:
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)


def named(path: Sequence[Any], problem: str) -> str:
    """A problem, after the name of the field that has it."""
    return f"{'.'.join(map(str, path))}: {problem}" if path else problem


def in_words(message: str) -> str:
    """A message of pydantic in the words of JSON."""
    if pattern := _PATTERN.match(message):
        return f"must be {IN_WORDS.get(pattern[1], f'of the form {pattern[1]}')}"
    for wording, better in _WORDS:
        message = wording.sub(better, message)
    return message


def _no_such_field(
    problem: Mapping[str, Any], path: Sequence[Any], known: Known, missing: Sequence[str]
) -> str:
    """Args:
    missing: required fields that the object lacks.
    """
    there = [name for name in known(_steps(problem["loc"])[:-1]) if name != path[-1]]
    meant = nearest(str(path[-1]), there)
    if meant is None and len(missing) == 1:
        meant = missing[0]
    said = "there is no such field"
    return f"{said}: leave it out" if meant is None else f"{said}; did you mean {meant}?"


def _follows_from_another(problem: Mapping[str, Any], path: Sequence[Any], body: Any) -> bool:
    """Whether a list counts as too short only because some of its items are wrong."""
    counted = _COUNTED.search(problem["msg"])
    if problem["type"] != "too_short" or counted is None:
        return False
    value = body
    for step in path:
        value = value[step]
    return isinstance(value, list) and len(value) > int(counted[1])


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
