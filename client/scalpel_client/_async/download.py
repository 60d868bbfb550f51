"""Files of the API: read, or saved with their checksum compared."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx

from scalpel_client._async.transport import AsyncTransport
from scalpel_client._shared.retries import delay, may_repeat
from scalpel_client._shared.uploads import Progress
from scalpel_client.errors import APIError, APIStatusError, DownloadError

_SHA256 = re.compile(r'"([0-9a-f]{64})"')


class AsyncDownload:
    """A file that is fetched once it is read or saved."""

    def __init__(
        self,
        transport: AsyncTransport,
        path: str,
        query: Mapping[str, Any] | None = None,
        accept: str = "*/*",
    ) -> None:
        self._transport = transport
        self._path = path
        self._query = query
        self._headers = {"Accept": accept, "Accept-Encoding": "identity"}

    async def read(self) -> bytes:
        """All of it, in memory.

        Raises:
            DownloadError: it is not what its checksum says.
        """
        response = await self._transport.send(
            "GET", self._path, lambda: {"headers": self._headers}, query=self._query
        )
        digest = hashlib.sha256(response.content).hexdigest()
        _check(self._path, response.headers.get("etag", ""), digest)
        return response.content

    async def text(self) -> str:
        data = await self.read()
        return data.decode()

    async def save(self, file: Path | str, on_progress: Progress | None = None) -> Path:
        """Write it to `file`, which appears once all of it is there and its checksum is right.

        What arrives is kept beside it, as `….part`: where the connection breaks, and when it is
        saved again after this process was stopped, only the rest is fetched. A file without a
        checksum, such as an archive, is fetched anew.

        Args:
            on_progress: is told the bytes that are there, and of how many (None if unknown).

        Raises:
            APIError: the API refuses, or nothing new comes any more.
            DownloadError: what has arrived is not what its checksum says.
        """
        target = Path(file)
        part = target.with_name(target.name + ".part")
        found = part.exists()
        try:
            await self._fetch(part, on_progress)
        except DownloadError:
            part.unlink()
            if not found:
                raise
            await self._fetch(part, on_progress)  # it was another file's
        part.replace(target)
        return target

    async def _fetch(self, part: Path, on_progress: Progress | None) -> None:
        etag, repeats = "", 0
        while True:
            before, resumed = _size(part), False
            try:
                async with self._open(before, etag) as response:
                    etag = response.headers.get("etag", "")
                    resumed = response.status_code == 206
                    if before and resumed and _SHA256.fullmatch(etag) is None:
                        part.unlink()  # nothing tells whether it is the same file's beginning
                        continue
                    await _write(response, part, on_progress)
                break
            except APIError as error:
                if isinstance(error, APIStatusError) and error.status_code == 416:
                    part.unlink()  # all of it was there, or more
                    continue
                if resumed and _size(part) > before:
                    repeats = 0
                if repeats >= self._transport.max_retries or not may_repeat(error, "GET"):
                    raise
                await asyncio.sleep(delay(repeats, error))
                repeats += 1
        _check(self._path, etag, _digest(part))

    def _open(self, size: int, etag: str) -> AbstractAsyncContextManager[httpx.Response]:
        """The rest behind `size`; all, if the file is not that of `etag` any more."""
        headers = {**self._headers}
        if size:
            headers |= {"Range": f"bytes={size}-", **({"If-Range": etag} if etag else {})}
        return self._transport.stream("GET", self._path, query=self._query, headers=headers)


async def _write(response: httpx.Response, part: Path, on_progress: Progress | None) -> None:
    resumed = response.status_code == 206
    done = _size(part) if resumed else 0
    length = response.headers.get("content-length")
    total = done + int(length) if length is not None else None
    with part.open("ab" if resumed else "wb") as out:
        async for chunk in response.aiter_raw():
            out.write(chunk)
            done += len(chunk)
            if on_progress is not None:
                on_progress(done, total)


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _check(path: str, etag: str, digest: str) -> None:
    expected = _SHA256.fullmatch(etag)
    if expected is not None and expected.group(1) != digest:
        raise DownloadError(f"{path} has arrived as {digest}, not as {expected.group(1)}")
