"""What an import begins with: files as they arrive, unpacked, recognised and checked by their
headers; or a repository, or another model.
"""

from __future__ import annotations

import hashlib
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from models_store.errors import InvalidRequest, TooLarge
from models_store.objects.store import unavailable
from models_store.schemas.catalogue import HubSource
from models_store.schemas.imports import ImportSource, ModelSource, SourceFile
from models_store.weights.foreign import (
    DELTA_NAME,
    PICKLES,
    ForeignFile,
    check_delta,
    read_adapter,
    recognise,
)
from models_store.weights.peft import CONFIG_NAME, WEIGHTS_NAME
from models_store.work.base_models import BaseFacts, BaseModels, ReadyBase

_CHUNK_BYTES = 2**20
_ZIP = b"PK\x03\x04"
_MOST_MEMBERS = 1_000
_WEIGHTS = (".safetensors", ".gguf")
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_BROKEN = (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    zlib.error,
    EOFError,
    ValueError,  # of a name that is no text, or a negative place
    OSError,  # of a place that no file has
    IndexError,  # of an empty name
)
"""What reading a crafted archive raises."""

_USUAL_RANK = 64
"""Of an adapter that is still to be downloaded."""
_WIDTHS = 23
"""Rows and columns of the seven matrices of a layer, as multiples of its width: four of attention,
and three between it and about four times as many."""


@dataclass(frozen=True)
class Received:
    """A file that has arrived, in a temporary file without a name."""

    name: str
    stream: BinaryIO
    size: int
    sha256: str

    def pieces(self) -> Iterator[bytes]:
        self.stream.seek(0)
        while piece := self.stream.read(_CHUNK_BYTES):
            yield piece


class Receiver:
    """Takes the bytes of a file as they come.

    Raises (`feed`):
        TooLarge: there are more than it may have.
        Unavailable: as `__init__` and `end`, `store_full` or `store_unavailable`: the disk is full
            or broken.
    """

    def __init__(self, name: str, folder: Path, most: int) -> None:
        self._name = name
        self._most = most
        self._size = 0
        self._sha256 = hashlib.sha256()
        # Without a name, so that no crash leaves it behind.
        with _writing():
            self._stream: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115

    def feed(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._most:
            raise TooLarge(f"{self._name[:200]} has more than {self._most} bytes")
        self._sha256.update(data)
        with _writing():
            self._stream.write(data)

    def end(self) -> Received:
        with _writing():
            self._stream.flush()
        return Received(self._name, self._stream, self._size, self._sha256.hexdigest())

    def close(self) -> None:
        with suppress(OSError):  # what a full disk did not take is written once more
            self._stream.close()


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unavailable(error) from error


def unpacked(
    files: Sequence[Received], receive: Callable[[str, int], Receiver], most: int
) -> list[Received]:
    """The files, with those that archives hold in place of the archives.

    Args:
        receive: makes a place for a file of a name, with so many bytes at most.
        most: bytes that all may have together.

    Raises:
        InvalidRequest: an archive is broken, or holds what an import's has not.
        TooLarge: there is too much in it.
    """
    found: list[Received] = []
    left = most
    for file in files:
        file.stream.seek(0)
        members = _members(file, receive, left) if file.stream.read(4) == _ZIP else [file]
        left -= sum(member.size for member in members)
        found += members
    return found


def _members(file: Received, receive: Callable[[str, int], Receiver], most: int) -> list[Received]:
    try:
        with zipfile.ZipFile(file.stream) as archive:
            if len(archive.infolist()) > _MOST_MEMBERS:
                raise _refusal(file, f"it has more than {_MOST_MEMBERS} files")
            wanted = _without_pickles(
                [info for info in archive.infolist() if _is_wanted(file, info)]
            )
            names = [PurePosixPath(info.filename).name for info in wanted]
            if len(set(names)) < len(names):
                raise _refusal(file, "it holds several adapters: send one")
            members = []
            for info, name in zip(wanted, names, strict=True):
                if info.compress_type not in _COMPRESSIONS:
                    raise _refusal(file, f"{name[:200]} is compressed otherwise than by deflate")
                receiver = receive(name, most)
                with archive.open(info) as stream:
                    while piece := stream.read(_CHUNK_BYTES):
                        receiver.feed(piece)
                members.append(receiver.end())
                most -= members[-1].size
            return members
    except _BROKEN as error:
        raise _refusal(file, f"it is no archive that can be read: {error}") from error


def _is_wanted(file: Received, info: zipfile.ZipInfo) -> bool:
    """Whether a member is part of an edit: not a README, a tokenizer, a folder.

    Raises:
        InvalidRequest: its path leads out of the archive, or it is a link.
    """
    path = PurePosixPath(info.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or stat.S_ISLNK(info.external_attr >> 16):
        raise _refusal(file, f"{info.filename[:200]!r} leads out of it")
    name = path.name.lower()
    return not info.is_dir() and (name == CONFIG_NAME or name.endswith((*_WEIGHTS, *PICKLES)))


def _without_pickles(members: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """Members without what training leaves beside weights, such as `training_args.bin`; where there
    are no other weights, with them, so that they are refused."""
    names = {info.filename: info.filename.lower() for info in members}
    if not any(name.endswith(_WEIGHTS) for name in names.values()):
        return members
    return [info for info in members if not names[info.filename].endswith(PICKLES)]


def _refusal(file: Received, detail: str) -> InvalidRequest:
    return InvalidRequest.at("/file", f"{file.name[:200]}: {detail}", "bad_archive")


def recognised(
    files: Sequence[Received], facts: BaseFacts
) -> tuple[ImportSource, Mapping[str, Received]]:
    """What some files are, and the files by the names that they are kept under.

    Args:
        facts: of the base model that they were made for.

    Raises:
        InvalidRequest: no edit can be made of them.
    """
    by_name = {file.name: file for file in files}
    if len(by_name) < len(files):
        raise InvalidRequest.at("/file", "two files have the same name", "duplicate")
    opened = {name: ForeignFile(file.stream, file.size) for name, file in by_name.items()}
    kind, names = recognise(opened)
    if kind == "native":
        check_delta(opened[names[DELTA_NAME]], facts.fingerprint)
    elif kind == "peft":
        read_adapter(opened[names[CONFIG_NAME]], opened[names[WEIGHTS_NAME]], facts.layers)
    kept = {name: by_name[given] for name, given in names.items()}
    described = tuple(
        SourceFile(name=name, sha256=file.sha256, bytes=file.size) for name, file in kept.items()
    )
    return ImportSource(kind=kind, files=described), kept


@dataclass(frozen=True)
class Source:
    """What an import begins with."""

    source: ImportSource
    files: Mapping[str, Received]
    """By the names that they are kept under."""
    delta_bytes: int
    """That its delta will have, about."""


def source_of(
    named: HubSource | ModelSource | None,
    files: Sequence[Received],
    base: ReadyBase,
    bases: BaseModels,
) -> Source:
    """The repository or model that a request names, or else the files that came with it.

    Raises:
        InvalidRequest: no edit of the base model can be made of it.
        Conflict: `base_model_not_ready`, the other model is not.
    """
    if isinstance(named, HubSource):
        return Source(ImportSource(hub=named), {}, _adapter_bytes(base.facts, _USUAL_RANK))
    if named is not None:
        source = _difference(base, named, bases)
        return Source(source, {}, _adapter_bytes(base.facts, named.rank))
    source, kept = recognised(files, base.facts)
    # In fp32, and files have 16 bits mostly.
    return Source(source, kept, 2 * sum(file.size for file in kept.values()))


def _difference(base: ReadyBase, source: ModelSource, bases: BaseModels) -> ImportSource:
    """Another model's difference to the base, if the two can be compared."""
    other = bases.ready(source.id, "/source/id")
    for field in ("architecture", "layers", "hidden_size", "parameters"):
        ours, theirs = getattr(base.facts, field), getattr(other.facts, field)
        if ours != theirs:
            raise InvalidRequest.at(
                "/source/id",
                f"{other.id} and {base.id} cannot be compared: {field} is {theirs}, not {ours}",
            )
    if other.spec.pool != base.spec.pool:
        raise InvalidRequest.at(
            "/source/id",
            f"{other.id} is in the pool {other.spec.pool}, {base.id} in {base.spec.pool}: no "
            "editor has both",
        )
    if other.facts.fingerprint == base.facts.fingerprint:
        raise InvalidRequest.at("/source/id", f"{other.id} has the weights of {base.id}")
    return ImportSource(kind="difference", model=source, model_fingerprint=other.facts.fingerprint)


def _adapter_bytes(facts: BaseFacts, rank: int) -> int:
    """Size of a delta of a rank in every matrix of a model, about."""
    return 4 * rank * facts.layers * _WIDTHS * facts.hidden_size
