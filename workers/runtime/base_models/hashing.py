"""The fingerprint that pins a base model: what its tensors are, whatever files they lie in."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from models_store.errors import BaseModelUnavailable
from workers.runtime.base_models.staging import MANIFEST
from workers.runtime.base_models.weights import StoredTensor, stored_tensors, weight_files

_BLOCK_BYTES = 4 * 2**20
_SETTINGS = frozenset({".json", ".jinja", ".model", ".txt", ".tiktoken"})
"""Endings of files with settings and vocabularies."""


class _Stamp(BaseModel):
    """What changes when somebody writes to a file or puts another in its place."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


class _Remembered(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: str
    files: tuple[_Stamp, ...]
    fingerprint: str


def fingerprint(folder: Path, cache: Path | None = None) -> str:
    """`sha256:<hex>` over the name, dtype, shape and bytes of every tensor, sorted by name.

    The same weights have the same fingerprint in one file or in many, whatever their metadata.
    Memory stays at a few MiB whatever the model's size.

    Args:
        folder: a Hugging Face folder.
        cache: Scalpel's cache folder, which keeps the fingerprint for as long as the files stay as
            they are (size, times, inode): a second call takes about a millisecond instead of a
            second a gigabyte. `None` reads the weights anew.

    Raises:
        InvalidRequest, BaseModelUnavailable: the weights cannot be read whole, or changed
            meanwhile.
    """
    files = weight_files(folder)
    before = _stamps(files)
    note = None if cache is None else _note_of(folder, cache)
    if note is not None:
        kept = _recall(note)
        if kept is not None and kept.folder == str(folder.resolve()) and kept.files == before:
            return kept.fingerprint
    value = f"sha256:{_digest(stored_tensors(folder))}"
    if _stamps(files) != before:
        raise BaseModelUnavailable(f"the weights in {folder} changed while they were being read")
    if note is not None:
        kept = _Remembered(folder=str(folder.resolve()), files=before, fingerprint=value)
        # A cache that cannot be written costs the next start some time, and nothing else.
        with contextlib.suppress(OSError):
            _remember(note, kept)
    return value


def settings_digest(folder: Path) -> str:
    """`sha256:<hex>` over the names and bytes of the files beside the weights: configuration,
    tokenizer, chat template, what ends a generation. They decide what the same weights make of a
    text."""
    total = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in _SETTINGS and file.is_file() and not _about_files(file.name):
            data = file.read_bytes()
            total.update(json.dumps([file.name, len(data)]).encode() + b"\n" + data)
    return f"sha256:{total.hexdigest()}"


def _about_files(name: str) -> bool:
    """Whether a file only says where weights lie or came from."""
    return name == MANIFEST or name.endswith(".index.json")


def _digest(tensors: dict[str, StoredTensor]) -> str:
    total = hashlib.sha256()
    block = memoryview(bytearray(_BLOCK_BYTES))
    for name in sorted(tensors):
        tensor = tensors[name]
        heading = json.dumps([name, tensor.dtype, list(tensor.shape), tensor.stop - tensor.start])
        # A line break cannot occur in the heading, so no two models give the same stream.
        total.update(f"{heading}\n".encode())
        with tensor.file.open("rb", buffering=0) as stream:
            stream.seek(tensor.start)
            left = tensor.stop - tensor.start
            while left:
                count = stream.readinto(block[: min(left, _BLOCK_BYTES)])
                if not count:
                    raise BaseModelUnavailable(f"{tensor.file} ends within {name}: fetch it again")
                total.update(block[:count])
                left -= count
    return total.hexdigest()


def _stamps(files: Sequence[Path]) -> tuple[_Stamp, ...]:
    return tuple(
        _Stamp(
            name=file.name,
            size=status.st_size,
            mtime_ns=status.st_mtime_ns,
            ctime_ns=status.st_ctime_ns,
            inode=status.st_ino,
        )
        for file, status in ((file, file.stat()) for file in files)
    )


def _note_of(folder: Path, cache: Path) -> Path:
    """Where the fingerprint of `folder` is kept: not in it, since it may not be ours."""
    name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]
    return cache / "fingerprints" / f"{name}.json"


def _recall(note: Path) -> _Remembered | None:
    try:
        return _Remembered.model_validate_json(note.read_bytes())
    except (OSError, ValidationError):
        return None


def _remember(note: Path, remembered: _Remembered) -> None:
    note.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=note.parent, delete=False) as stream:
        stream.write(remembered.model_dump_json().encode())
    Path(stream.name).replace(note)
