"""A behaviour as it is uploaded: one JSON object, or JSON lines with a label each."""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter

from app.json_body import parse_json, validated
from models_store.behaviors import MAX_PROMPTS, MAX_TEXTS, Behavior
from models_store.errors import FieldError, InvalidRequest

_MAX_LINES = MAX_TEXTS + MAX_PROMPTS
_adapter: TypeAdapter[Behavior] = TypeAdapter(Behavior)


def behavior_from_json(data: bytes, sent: Any) -> Behavior:
    """The behaviour that a JSON body is; `sent` is the parsed body.

    Raises:
        InvalidRequest: a field is wrong.
    """
    behavior: Behavior = validated(_adapter, data, sent)
    return behavior


def behavior_from_lines(data: bytes, name: str) -> Behavior:
    """The behaviour that the lines make up.

    Raises:
        Malformed: a line is not JSON.
        InvalidRequest: a line has no label, or is no item; the pointer's first step is the number
            of the line, from 0.
    """
    parts: dict[str, list[Any]] = {"undesired": [], "desired": [], "prompt": []}
    origin: dict[tuple[str, int], int] = {}
    problems = []
    lines = [(n, line) for n, line in enumerate(data.splitlines()) if line.strip()]
    if len(lines) > _MAX_LINES:
        raise InvalidRequest(f"{len(lines)} lines; at most {_MAX_LINES} are allowed")
    for number, line in lines:
        try:
            item = parse_json(line, f"line {number + 1}")
        except InvalidRequest as error:
            problems += [
                _on_line(number, one.pointer, one.code, one.detail) for one in error.errors
            ]
            continue
        label = item.pop("label", None) if isinstance(item, dict) else None
        if not isinstance(label, str) or label not in parts:
            detail = f"label must be one of {', '.join(parts)}"
            problems.append(_on_line(number, "/label", "invalid_label", detail))
            continue
        origin[label, len(parts[label])] = number
        parts[label].append(item)
    if problems:
        raise InvalidRequest(problems[0].detail, errors=problems[:100])
    whole = {"name": name, "undesired": parts["undesired"], "desired": parts["desired"]}
    whole["prompts"] = parts["prompt"]
    try:
        return behavior_from_json(json.dumps(whole).encode(), whole)
    except InvalidRequest as error:
        raise _at_lines(error, origin) from None


def _at_lines(error: InvalidRequest, origin: dict[tuple[str, int], int]) -> InvalidRequest:
    """The same errors, pointing to lines in place of positions in one of the three lists."""
    moved = []
    for one in error.errors:
        _, part, *rest = one.pointer.split("/")
        label = "prompt" if part == "prompts" else part
        if rest and rest[0].isdigit() and (label, int(rest[0])) in origin:
            detail = one.detail.removeprefix(f"{part}.{rest[0]}").lstrip(".: ")
            pointer = "".join(f"/{step}" for step in rest[1:])
            moved.append(_on_line(origin[label, int(rest[0])], pointer, one.code, detail))
        else:
            moved.append(one)
    return InvalidRequest(moved[0].detail, errors=moved)


def _on_line(number: int, pointer: str, code: str, detail: str) -> FieldError:
    return FieldError(f"/{number}{pointer}", code, f"line {number + 1}: {detail}")
