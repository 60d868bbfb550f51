"""Files on their way to the API."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

CHUNK_BYTES = 2**18
Progress = Callable[[int, int | None], None]
"""Is told the bytes that are done, and of how many, or None where that is not known."""


class Upload:
    """An open file that tells how much of it has been read; httpx rewinds and reads it."""

    def __init__(self, file: BinaryIO, told: Callable[[int], None]) -> None:
        self._file = file
        self._told = told

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._told(len(data))
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def fileno(self) -> int:
        return self._file.fileno()


class UploadProgress:
    """Adds up what is read of several files."""

    def __init__(self, files: list[Path], on_progress: Progress | None) -> None:
        self._sent = 0
        self._total = sum(file.stat().st_size for file in files)
        self._on_progress = on_progress

    def __call__(self, count: int) -> None:
        self._sent += count
        if self._on_progress is not None and count:
            self._on_progress(self._sent, self._total)
