"""The lines of a file for fine-tuning: JSON objects, one a line, counted from 1."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from app.request.strict_input.json_body import parse_json
from models_store.errors import FieldError, InvalidRequest, Malformed, TooLarge
from models_store.net.lines import LineBuffer

CODE = "invalid_training_file"
MAX_LINE_BYTES = 2**20
MOST_LINES = 100_000
_BOM = b"\xef\xbb\xbf"


def wrong_line(field: str, number: int, detail: str) -> InvalidRequest:
    """A line of the file in that field of a request cannot be used."""
    return wrong_file(field, f"{field}, line {number}: {detail}")


def wrong_file(field: str, message: str) -> InvalidRequest:
    """The file in that field cannot be used."""
    return InvalidRequest(message, code=CODE, errors=[FieldError(f"/{field}", CODE, message)])


class JsonLines:
    """Checks that what arrives is JSON objects, one a line.

    Raises (`feed` and `end`):
        InvalidRequest: `invalid_training_file`: a line is something else, or too long, or there are
            none, or too many.
    """

    def __init__(self, field: str, take: Callable[[int, dict[str, Any]], None]) -> None:
        """Args:
        field: of the request, that the file is in.
        take: gets the number of each line that is not empty, and its object.
        """
        self._field = field
        self._lines = LineBuffer()
        self._number = 0
        self._objects = 0
        self._take_object = take

    def feed(self, data: bytes) -> None:
        """Take the next bytes, which may end anywhere in a line."""
        for line in self._lines.feed(data):
            self._take(line)
        self._check_length(self._lines.rest)

    def end(self) -> None:
        self._take(bytes(self._lines.rest))
        if not self._objects:
            raise wrong_file(self._field, f"{self._field} is empty: send JSON objects, one a line")

    def _take(self, line: bytes) -> None:
        self._check_length(line)
        self._number += 1
        if self._number > MOST_LINES:
            raise wrong_file(self._field, f"{self._field} has more than {MOST_LINES} lines")
        line = line.removeprefix(_BOM).strip() if self._number == 1 else line.strip()
        if line:
            self._objects += 1
            self._take_object(self._number, self._object(line))

    def _object(self, line: bytes) -> dict[str, Any]:
        try:
            found = parse_json(line, "it")
        except (Malformed, InvalidRequest, TooLarge) as error:
            raise wrong_line(self._field, self._number, error.message) from None
        if not isinstance(found, dict):
            raise wrong_line(self._field, self._number, "it is no JSON object")
        return found

    def _check_length(self, line: bytes | bytearray) -> None:
        if len(line) > MAX_LINE_BYTES:
            detail = f"it has more than {MAX_LINE_BYTES} bytes"
            raise wrong_line(self._field, self._number + 1, detail)


def objects_of(field: str, pieces: Iterable[bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and object of every line of a file.

    Raises:
        InvalidRequest: as `JsonLines`.
    """
    found: list[tuple[int, dict[str, Any]]] = []
    lines = JsonLines(field, lambda number, line: found.append((number, line)))
    for piece in pieces:
        lines.feed(piece)
        yield from found
        found.clear()
    lines.end()
    yield from found
