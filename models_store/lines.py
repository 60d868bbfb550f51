"""Lines of JSON that come over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator


async def lines_of(data: AsyncIterable[bytes]) -> AsyncIterator[str]:
    """The lines of JSON lines, or of server-sent events, as they come.

    They end with a line feed alone. httpx ends one at U+2028 and all that Unicode calls a line
    break as well, and a text within JSON may have those.

    Args:
        data: UTF-8, cut anywhere.
    """
    rest = b""
    async for part in data:
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            yield line.decode("utf-8", "replace").removesuffix("\r")
    if rest:
        yield rest.decode("utf-8", "replace")
