"""Names in the folders of a local store: read at once, and again only when a folder has changed.

The storage library asks for size and time of each file, which takes twenty times as long where ten
thousand pieces of work lie in one folder.
"""

from __future__ import annotations

import os
import re
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

PLAIN_PATH = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
"""Paths that cannot lead out of a folder."""
TEMPORARY = re.compile(r".+#[0-9]+")
"""Names of files that are being written."""
_SETTLED_NS = 2_500_000_000
"""A change can leave a folder's time as it was if the change before it is not this old: some file
systems count in steps of two seconds."""
_REMEMBERED = 256


@dataclass(frozen=True)
class _Seen:
    inode: int
    changed_ns: int
    entries: Mapping[str, bool]


class LocalFolders:
    """Folders below `root`; safe to use from several threads."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._lock = Lock()

    def entries(self, folder: str) -> Mapping[str, bool]:
        """Names in a folder, sorted, each with whether it is a folder; none if it is not there.

        Raises:
            OSError: the folder cannot be read.
        """
        try:
            status = (self._root / folder).stat()
        except (FileNotFoundError, NotADirectoryError):
            return {}
        with self._lock:
            seen = self._seen.get(folder)
            if seen and (seen.inode, seen.changed_ns) == (status.st_ino, status.st_mtime_ns):
                self._seen.move_to_end(folder)
                return seen.entries
        settled = time.time_ns() - status.st_mtime_ns > _SETTLED_NS
        entries = self._scan(folder)
        with self._lock:
            if settled:
                self._seen[folder] = _Seen(status.st_ino, status.st_mtime_ns, entries)
                self._seen.move_to_end(folder)
                while len(self._seen) > _REMEMBERED:
                    self._seen.popitem(last=False)
            else:
                self._seen.pop(folder, None)
        return entries

    def below(self, folder: str, *, remember: bool) -> Iterator[str]:
        """All files below a folder; what is small and asked for once need not be remembered."""
        entries = self.entries(folder) if remember else self._scan(folder)
        for name, is_folder in entries.items():
            path = f"{folder}/{name}"
            if is_folder:
                yield from self.below(path, remember=remember)
            else:
                yield path

    def _scan(self, folder: str) -> Mapping[str, bool]:
        try:
            with os.scandir(f"{self._root}/{folder}") as found:
                return dict(
                    sorted(
                        (entry.name, entry.is_dir())
                        for entry in found
                        if "#" not in entry.name or not TEMPORARY.fullmatch(entry.name)
                    )
                )
        except (FileNotFoundError, NotADirectoryError):
            return {}

    def read(self, path: str, most: int) -> bytes | None:
        """A file of at most so many bytes; None for a larger one.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: it cannot be read.
        """
        try:
            # Without a buffer, which would be as large as the most that may be read.
            with open(f"{self._root}/{path}", "rb", buffering=0) as file:  # noqa: PTH123
                return file.read() if os.fstat(file.fileno()).st_size <= most else None
        except (IsADirectoryError, NotADirectoryError) as error:
            raise FileNotFoundError(path) from error
