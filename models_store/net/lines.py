"""Lines out of a stream of bytes, as they come over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator


class LineBuffer:
    """Joins pieces of bytes into lines; only a line feed ends one."""

    def __init__(self) -> None:
        self.rest = bytearray()
        """The incomplete last line."""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that these bytes complete, without their line feeds."""
        first, *others = data.split(b"\n")
        self.rest += first
        if not others:
            return []
        lines = [bytes(self.rest), *others[:-1]]
        self.rest = bytearray(others[-1])
        return lines


async def lines_of(data: AsyncIterable[bytes]) -> AsyncIterator[str]:
    """The lines of a stream of JSON lines or server-sent events.

    Only a line feed ends a line. httpx also splits at U+2028 and every other Unicode line break,
    which a text within JSON may contain.

    Args:
        data: UTF-8, split anywhere.
    """
    buffer = LineBuffer()
    async for part in data:
        for line in buffer.feed(part):
            yield line.decode("utf-8", "replace").removesuffix("\r")
    if buffer.rest:
        yield buffer.rest.decode("utf-8", "replace")
