"""Archives that are sent while they are made."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator

import pytest

from app.http.zip_stream import zip_stream

_CHUNK = bytes(2**20)


def test_an_archive_holds_the_files_in_order() -> None:
    parts = [("b", iter([b"1", b"23"])), ("a", iter([]))]
    with zipfile.ZipFile(io.BytesIO(b"".join(zip_stream(parts)))) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == {"b": b"123", "a": b""}


class Holes(io.RawIOBase):
    """A file of which only short pieces are kept; the rest reads as zeros."""

    def __init__(self) -> None:
        self._pieces: dict[int, bytes] = {}
        self._size = self._at = 0

    def add(self, data: bytes) -> None:
        if len(data) < len(_CHUNK):
            self._pieces[self._size] = data
        elif data != _CHUNK:
            # A header, before the first bytes of a file.
            self._pieces[self._size] = data.rstrip(b"\0")
        self._size += len(data)

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def read(self, count: int = -1) -> bytes:
        end = self._size if count < 0 else min(self._size, self._at + count)
        data = bytearray(end - self._at)
        for start, piece in self._pieces.items():
            for i, byte in enumerate(piece, start):
                if self._at <= i < end:
                    data[i - self._at] = byte
        self._at = end
        return bytes(data)


@pytest.mark.slow
def test_files_and_archives_may_be_larger_than_4_gib() -> None:
    chunks = 4 * 2**10 + 3

    def zeros() -> Iterator[bytes]:
        return (_CHUNK for _ in range(chunks))

    kept = Holes()
    for piece in zip_stream([("weights", zeros()), ("config", iter([b"{}"]))]):
        assert len(piece) <= len(_CHUNK) + 1000
        kept.add(piece)
    with zipfile.ZipFile(kept) as archive:  # type: ignore[call-overload]
        large, small = archive.infolist()
        assert large.file_size == chunks * len(_CHUNK)
        assert small.header_offset > 2**32
        assert archive.read("config") == b"{}"
        with archive.open("weights") as stream:
            assert stream.read(10) == bytes(10)
