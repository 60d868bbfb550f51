"""Lines of JSON that come over HTTP, in pieces."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator


class LineBuffer:
    """Puts pieces of bytes together to lines, which end with a line feed alone."""

    def __init__(self) -> None:
        self.rest = bytearray()
        """The line that is not whole yet."""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that end with these bytes, without their ends."""
        first, *others = data.split(b"\n")
        self.rest += first
        if not others:
            return []
        lines = [bytes(self.rest), *others[:-1]]
        self.rest = bytearray(others[-1])
        return lines


async def lines_of(data: AsyncIterable[bytes]) -> AsyncIterator[str]:
    """The lines of JSON lines, or of server-sent events, as they come.

    They end with a line feed alone. httpx ends one at U+2028 and all that Unicode calls a line
    break as well, and a text within JSON may have those.

    Args:
        data: UTF-8, cut anywhere.
    """
    buffer = LineBuffer()
    async for part in data:
        for line in buffer.feed(part):
            yield line.decode("utf-8", "replace").removesuffix("\r")
    if buffer.rest:
        yield buffer.rest.decode("utf-8", "replace")
