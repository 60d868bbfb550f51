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

TEMPORARY = re.compile(r".+#[0-9]+")
"""Names of files that are being written."""
_SETTLED_NS = 100_000_000
"""A change can leave a folder's time as it was if the change before it is not this old."""
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
        path = self._root / folder
        try:
            status = path.stat()
            with self._lock:
                seen = self._seen.get(folder)
                if seen is not None and (seen.inode, seen.changed_ns) == (
                    status.st_ino,
                    status.st_mtime_ns,
                ):
                    self._seen.move_to_end(folder)
                    return seen.entries
            settled = time.time_ns() - status.st_mtime_ns > _SETTLED_NS
            with os.scandir(path) as found:
                entries = dict(
                    sorted(
                        (entry.name, entry.is_dir())
                        for entry in found
                        if not TEMPORARY.fullmatch(entry.name)
                    )
                )
        except (FileNotFoundError, NotADirectoryError):
            return {}
        with self._lock:
            if settled:
                self._seen[folder] = _Seen(status.st_ino, status.st_mtime_ns, entries)
                self._seen.move_to_end(folder)
                while len(self._seen) > _REMEMBERED:
                    self._seen.popitem(last=False)
            else:
                self._seen.pop(folder, None)
        return entries

    def below(self, folder: str) -> Iterator[str]:
        """Paths of all files below a folder."""
        for name, is_folder in self.entries(folder).items():
            path = f"{folder}/{name}"
            if is_folder:
                yield from self.below(path)
            else:
                yield path
