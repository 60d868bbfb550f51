"""Server-sent events, line by line."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ServerEvent:
    """One event of a stream."""

    type: str
    data: Any
    """Its JSON."""
    id: str | None = None


@dataclass
class Decoder:
    """Puts lines together to events."""

    retry_seconds: float | None = None
    """After how long the server wants to be asked again, once it has said so."""
    _type: str = ""
    _id: str | None = None
    _data: list[str] = field(default_factory=list)

    def restart(self) -> None:
        """Forget the beginning of an event that broke off."""
        self._type, self._id, self._data = "", None, []

    def feed(self, line: str) -> ServerEvent | None:
        """Take the next line, without its end; gives an event if the line ended one."""
        if not line:
            return self._end()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._type = value
        elif name == "id":
            self._id = value
        elif name == "retry" and value.isdecimal():
            self.retry_seconds = int(value) / 1000
        return None

    def _end(self) -> ServerEvent | None:
        type, id, data = self._type, self._id, self._data
        self.restart()
        return ServerEvent(type or "message", json.loads("\n".join(data)), id) if data else None
