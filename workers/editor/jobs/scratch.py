"""A folder for the files of a job while it runs, which a killed job does not leave for good."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_HELD = ".held"
"""Its lock is held by who uses the folder; the kernel drops it with the process."""


@contextmanager
def scratch_folder(cache: Path) -> Iterator[Path]:
    """An empty folder in Scalpel's cache, gone after the block; those of dead jobs go first."""
    home = cache / "exports"
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("a") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        try:
            _sweep(home)
            own = Path(tempfile.mkdtemp(dir=home))
            held = (own / _HELD).open("a")
            fcntl.flock(held, fcntl.LOCK_EX)
        finally:
            # Explicitly: a child forked meanwhile holds a copy of the descriptor.
            fcntl.flock(gate, fcntl.LOCK_UN)
    try:
        files = own / "files"
        files.mkdir()
        yield files
    finally:
        shutil.rmtree(own, ignore_errors=True)
        held.close()


def _sweep(home: Path) -> None:
    for folder in home.iterdir():
        if folder.is_dir():
            with (folder / _HELD).open("a") as lock:
                if _free(lock):
                    shutil.rmtree(folder, ignore_errors=True)


def _free(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
