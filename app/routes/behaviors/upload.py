"""A behaviour as it is uploaded: one JSON object, or JSON lines with a label each."""

from __future__ import annotations

import hashlib
from typing import Any

from pydantic import JsonValue, TypeAdapter
from pydantic_core import to_json

from app.http.fields import nearest
from app.request.strict_input.json_body import parse_json, validated
from app.routes.behaviors.preferences import items_of, preference_form
from models_store.errors import FieldError, InvalidRequest, TooLarge
from models_store.net.lines import LineBuffer
from models_store.schemas.behaviors import MAX_PROMPTS, MAX_TEXTS, Behavior
from models_store.schemas.items import Item, PromptItem

MAX_LINE_BYTES = 2**20
_MOST_LINES = 100_000
_MOST_PROBLEMS = 100
_behavior: TypeAdapter[Behavior] = TypeAdapter(Behavior)
_item: TypeAdapter[Any] = TypeAdapter(Item)
_labels: dict[str, tuple[TypeAdapter[Any], int]] = {
    "undesired": (_item, MAX_TEXTS),
    "desired": (_item, MAX_TEXTS),
    "prompt": (TypeAdapter(PromptItem), MAX_PROMPTS),
}


def behavior_from_json(data: bytes, sent: Any) -> Behavior:
    """The behaviour that a JSON body is; `sent` is the parsed body.

    Raises:
        InvalidRequest: a field is wrong.
    """
    behavior: Behavior = validated(_behavior, data, sent)
    return behavior


class BehaviorLines:
    """The behaviour that JSON lines make up, checked as they arrive.

    Until the end, what is kept of a line is its JSON: the objects that it becomes take many times
    as much, and a client may take its time.

    Raises (`feed` and `end`):
        Malformed: a line is not JSON.
        TooLarge: a line is too long, or there are too many, blank ones as well.
        InvalidRequest: lines have no label, or are no items, or there are too many of a label; the
            pointer's first step is the number of the line, from 0.
    """

    def __init__(self, name: str) -> None:
        self.size = 0
        """Bytes so far."""
        self._name = name
        self._sha256 = hashlib.sha256()
        self._lines = LineBuffer()
        self._number = 0
        self._items: dict[str, list[bytes]] = {label: [] for label in _labels}
        self._problems: list[FieldError] = []

    @property
    def sent(self) -> JsonValue:
        """What distinguishes this upload."""
        return {"name": self._name, "sha256": self._sha256.hexdigest()}

    def feed(self, data: bytes) -> None:
        """Take the next bytes, which may end anywhere in a line."""
        self.size += len(data)
        self._sha256.update(data)
        for line in self._lines.feed(data):
            self._take(line)
        self._check_length(self._lines.rest)

    def end(self) -> Behavior:
        """The behaviour, once all has been fed."""
        self._take(bytes(self._lines.rest))
        if self._problems:
            raise self._refusal()
        undesired, desired, prompts = (b",".join(self._items[label]) for label in _labels)
        return _behavior.validate_json(
            b'{"name": %b, "undesired": [%b], "desired": [%b], "prompts": [%b]}'
            % (to_json(self._name), undesired, desired, prompts)
        )

    def _check_length(self, line: bytes | bytearray) -> None:
        if len(line) > MAX_LINE_BYTES:
            raise TooLarge(f"line {self._number + 1} has more than {MAX_LINE_BYTES} bytes")

    def _take(self, line: bytes) -> None:
        self._check_length(line)
        if self._number == _MOST_LINES:
            raise TooLarge(f"more than {_MOST_LINES} lines: send no blank ones")
        if line := line.strip():
            try:
                self._read(line)
            except InvalidRequest as error:
                self._problems += [
                    FieldError(
                        f"/{self._number}{problem.pointer}",
                        problem.code,
                        f"line {self._number + 1}: {problem.detail}",
                    )
                    for problem in error.errors
                ]
                if len(self._problems) >= _MOST_PROBLEMS:
                    raise self._refusal() from None
        self._number += 1

    def _read(self, line: bytes) -> None:
        sent = parse_json(line, f"line {self._number + 1}")
        form = preference_form(sent) if isinstance(sent, dict) else None
        if form is not None:
            preference = validated(form, to_json(sent), sent)
            for side, text in items_of(preference, self._number + 1):
                item = to_json(text)
                validated(_labels[side][0], item, text)
                self._keep(side, item)
            return
        label = sent.pop("label", None) if isinstance(sent, dict) else None
        if not isinstance(label, str) or label not in _labels:
            detail = f"label must be one of {', '.join(_labels)}"
            if isinstance(sent, dict) and (slip := nearest("label", list(sent))) is not None:
                detail += f"; did you mean it by {slip[:100]}?"
            raise InvalidRequest.at("/label", detail, "invalid_label")
        adapter, _ = _labels[label]
        item = to_json(sent)
        validated(adapter, item, sent)
        self._keep(label, item)

    def _keep(self, label: str, item: bytes) -> None:
        """Keep an item that was found in order."""
        _, most = _labels[label]
        if len(self._items[label]) == most:
            detail = f"{label}: at most {most} lines are allowed"
            raise InvalidRequest.at("/label", detail, "too_many_texts")
        self._items[label].append(item)

    def _refusal(self) -> InvalidRequest:
        problems = self._problems[:_MOST_PROBLEMS]
        return InvalidRequest.of(problems)
