"""Make a folder once: whole or not at all, with many callers and with kills at any moment."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError

from models_store.errors import BaseModelUnavailable
from models_store.objects.local_folders import fsync

MANIFEST = "scalpel.json"


class _Manifest(BaseModel):
    """What a made folder holds; written last."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    origin: dict[str, str]
    files: dict[str, int]
    """Name to size in bytes."""


def make_once(
    target: Path,
    build: Callable[[Path], None],
    *,
    origin: Mapping[str, str],
    resume: bool = False,
) -> Path:
    """Return `target`, after `build` has filled it if it was not there whole.

    One process at a time builds, under a file lock that the kernel drops with its holder, in a
    hidden folder beside the target which is renamed into place; the others wait and find the
    result. A target that has lost a file since (a cache cleaner, a full disk) is made again.

    Args:
        target: the folder; its parent is made if need be.
        build: fills the folder it is given, with plain files only.
        origin: what it was made from and with; kept in `scalpel.json` beside the files.
        resume: leave what an earlier, broken-off `build` wrote instead of clearing it away.

    Raises:
        BaseModelUnavailable: the folder cannot be written (disk full, no permission).
    """
    if is_whole(target):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.parent / f".{target.name}.lock"):
            if not is_whole(target):
                _make(target, build, origin, resume)
    except (OSError, SafetensorError) as error:
        raise BaseModelUnavailable(_cannot_write(target, error)) from error
    return target


def _make(
    target: Path, build: Callable[[Path], None], origin: Mapping[str, str], resume: bool
) -> None:
    staging = target.parent / f".{target.name}.making"
    if not resume:
        shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(exist_ok=True)
    try:
        build(staging)
        files = {path.name: path.stat().st_size for path in sorted(staging.iterdir())}
        manifest = _Manifest(origin=dict(origin), files=files)
        (staging / MANIFEST).write_text(manifest.model_dump_json(indent=2), encoding="utf-8")
        for path in staging.iterdir():
            # safetensors writes files that only their owner may read.
            path.chmod(0o644)
            fsync(path)  # a rename must not overtake the bytes it stands for
        fsync(staging)
        shutil.rmtree(target, ignore_errors=True)
        staging.rename(target)
        fsync(target.parent)
    finally:
        if not resume:
            shutil.rmtree(staging, ignore_errors=True)


def is_whole(folder: Path) -> bool:
    """Whether `make_once` has made the folder, and nothing of it was lost since."""
    try:
        manifest = _Manifest.model_validate_json((folder / MANIFEST).read_bytes())
        return all((folder / f).stat().st_size == size for f, size in manifest.files.items())
    except (OSError, ValidationError):
        return False


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        try:
            yield
        finally:
            # Explicitly: a child forked meanwhile holds a copy of the descriptor.
            fcntl.flock(stream, fcntl.LOCK_UN)


def _cannot_write(target: Path, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    advice = "free some space" if getattr(error, "errno", 0) == errno.ENOSPC else "make it writable"
    return (
        f"{target.name} cannot be written to {target.parent}: {reason}; "
        f"{advice}, or set SCALPEL_CACHE to another folder"
    )
