"""Listings of a local store's folders, cached until a folder changes.

The storage library reads size and time of every file, which takes twenty times as long for a folder
of ten thousand pieces of work.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

PLAIN_PATH = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
"""Paths that cannot lead out of the root folder."""
TEMPORARY = re.compile(r".+#[0-9]+")
"""Names of files that are being written."""
_SETTLED_NS = 2_500_000_000
"""A listing is cached only if the folder's time is older than this: some file systems count in
steps of two seconds, so a second change may leave the time as it is."""
_CAPACITY = 256
_MOST_FLUSHED = 10_000


@dataclass(frozen=True)
class _Listing:
    inode: int
    changed_ns: int
    entries: Mapping[str, bool]


class LocalFolders:
    """Folders below `root`; safe to use from several threads."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._cached: OrderedDict[str, _Listing] = OrderedDict()
        self._lock = Lock()
        self._flushed: set[Path] = set()
        """Folders that are surely in their parents on disk; none is ever removed."""

    def entries(self, folder: str) -> Mapping[str, bool]:
        """Names in a folder, sorted, each with whether it is a folder; empty if there is none.

        Raises:
            OSError: the folder cannot be read.
        """
        try:
            status = os.stat(f"{self._root}/{folder}")  # noqa: PTH116 - of a string it is faster
        except (FileNotFoundError, NotADirectoryError):
            return {}
        with self._lock:
            cached = self._cached.get(folder)
            if cached and (cached.inode, cached.changed_ns) == (status.st_ino, status.st_mtime_ns):
                self._cached.move_to_end(folder)
                return cached.entries
        entries = self._scan(folder)
        with self._lock:
            if _is_settled(status):
                self._cached[folder] = _Listing(status.st_ino, status.st_mtime_ns, entries)
                self._cached.move_to_end(folder)
                while len(self._cached) > _CAPACITY:
                    self._cached.popitem(last=False)
            else:
                self._cached.pop(folder, None)
        return entries

    def names(self, folder: str) -> list[str]:
        """The names alone, sorted; a good deal faster where the folder has just changed."""
        path = f"{self._root}/{folder}"
        try:
            if _is_settled(os.stat(path)):  # noqa: PTH116
                return list(self.entries(folder))
            names = os.listdir(path)  # noqa: PTH208
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(name for name in names if not _is_temporary(name))

    def below(self, folder: str, *, remember: bool) -> Iterator[str]:
        """All files below a folder, sorted by folder; `remember` caches the listings."""
        entries = self.entries(folder) if remember else self._scan(folder)
        for name, is_folder in entries.items():
            path = f"{folder}/{name}"
            if is_folder:
                yield from self.below(path, remember=remember)
            else:
                yield path

    def _scan(self, folder: str) -> Mapping[str, bool]:
        try:
            with os.scandir(f"{self._root}/{folder}") as scan:
                return dict(
                    sorted(
                        (entry.name, entry.is_dir())
                        for entry in scan
                        if not _is_temporary(entry.name)
                    )
                )
        except (FileNotFoundError, NotADirectoryError):
            return {}

    def create(self, path: str, data: bytes, *, flush: bool) -> bool:
        """Write a file that appears as a whole; False if there is one already.

        Args:
            flush: its bytes to disk, before it appears, and then the folders above it.

        Raises:
            OSError: it cannot be written.
        """
        file = f"{self._root}/{path}"
        staged = f"{file}#{secrets.randbits(60)}"
        try:
            _write(staged, data, flush)
        except FileNotFoundError:
            os.makedirs(file.rpartition("/")[0], exist_ok=True)  # noqa: PTH103
            _write(staged, data, flush)
        try:
            os.link(staged, file)
        except FileExistsError:
            return False
        finally:
            os.unlink(staged)  # noqa: PTH108
        if flush:
            self._flush_above(path)
        return True

    def flush(self, path: str) -> None:
        """Bring a file to disk, and the folders above it."""
        fsync(self._root / path)
        self._flush_above(path)

    def _flush_above(self, path: str) -> None:
        """Flush the folder of a new file, and those above it once: a folder survives a crash only
        if its parent was flushed, and another process may have made it and not come to that."""
        folder = (self._root / path).parent
        fsync(folder)
        new = []
        while folder != self._root and folder not in self._flushed:
            new.append(folder)
            folder = folder.parent
            fsync(folder)
        if len(self._flushed) > _MOST_FLUSHED:
            self._flushed.clear()
        self._flushed.update(new)

    def exists(self, path: str) -> bool:
        """Whether there is a file.

        Raises:
            OSError: that cannot be seen.
        """
        try:
            os.stat(f"{self._root}/{path}")  # noqa: PTH116 - of a string it is faster
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def read(self, path: str, most: int) -> bytes | None:
        """A file of at most `most` bytes; None for a larger one.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: it cannot be read.
        """
        try:
            # Unbuffered: the buffer would be as large as the whole read.
            with open(f"{self._root}/{path}", "rb", buffering=0) as file:  # noqa: PTH123
                return file.read() if os.fstat(file.fileno()).st_size <= most else None
        except (IsADirectoryError, NotADirectoryError) as error:
            raise FileNotFoundError(path) from error


def fsync(path: Path) -> None:
    """Bring a file or a folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_temporary(name: str) -> bool:
    return "#" in name and TEMPORARY.fullmatch(name) is not None


def _is_settled(folder: os.stat_result) -> bool:
    return time.time_ns() - folder.st_mtime_ns > _SETTLED_NS


def _write(file: str, data: bytes, flush: bool) -> None:
    """Write a new file; none is left if that fails."""
    with open(file, "xb", buffering=0) as new:  # noqa: PTH123
        try:
            left = memoryview(data)
            while left:
                left = left[new.write(left) :]
            if flush:
                os.fsync(new.fileno())
        except BaseException:
            os.unlink(file)  # noqa: PTH108
            raise
