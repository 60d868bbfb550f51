"""Files that come out of work: stored with their checksums, and read back checked.

Of a large file the SHA-256 of every part of 1 MiB is stored beside it, in an object whose own
SHA-256 is in the record. So any range of it can be checked by reading little more than that, and no
byte leaves that is not what was written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import structlog

from models_store.errors import CorruptArtifact, NotFound
from models_store.objects.store import ObjectMissing, ObjectStore
from models_store.schemas.records import Artifact

PART_BYTES = 2**20
_SUM_BYTES = hashlib.sha256().digest_size
_WHOLE_BYTES = 4 * PART_BYTES
"""Up to this size a file is read whole to be checked, and there are no sums of its parts."""
_READ_BYTES = 4 * PART_BYTES
_log = structlog.get_logger()


class _Sums:
    """Sums of a file and of its parts, while it is written."""

    def __init__(self) -> None:
        self.size = 0
        self._whole = hashlib.sha256()
        self._part = hashlib.sha256()
        self._parts = bytearray()

    def update(self, data: bytes) -> None:
        self._whole.update(data)
        view = memoryview(data)
        while view:
            taken = view[: PART_BYTES - self.size % PART_BYTES]
            self._part.update(taken)
            self.size += len(taken)
            view = view[len(taken) :]
            if self.size % PART_BYTES == 0:
                self._end_part()

    def _end_part(self) -> None:
        self._parts += self._part.digest()
        self._part = hashlib.sha256()

    def ended(self) -> tuple[str, bytes]:
        """SHA-256 of the whole, and the sums of the parts."""
        if self.size % PART_BYTES:
            self._end_part()
        return self._whole.hexdigest(), bytes(self._parts)


def store_artifact(objects: ObjectStore, name: str, path: str, data: bytes | Path) -> Artifact:
    """Store an artifact under a path that nobody else writes.

    Args:
        data: its bytes, or a file that has them, which is read a chunk at a time.

    Raises:
        Unavailable: `store_unavailable` or `store_full`.
    """
    sums = _Sums()
    if isinstance(data, Path):
        objects.put(path, _summed(data, sums))
    else:
        sums.update(data)
        objects.put(path, data)
    sha256, parts = sums.ended()
    artifact = Artifact(name=name, path=path, sha256=sha256, bytes=sums.size)
    if sums.size <= _WHOLE_BYTES:
        return artifact
    objects.put(artifact.parts_path, parts)
    return artifact.model_copy(update={"parts_sha256": hashlib.sha256(parts).hexdigest()})


def _summed(file: Path, sums: _Sums) -> Iterator[bytes]:
    with file.open("rb", buffering=0) as stream:
        while chunk := stream.read(_READ_BYTES):
            sums.update(chunk)
            yield chunk


def part_sums(objects: ObjectStore, artifact: Artifact) -> bytes | None:
    """The sums of the parts of an artifact, one after the other; None if there are none, or they
    are lost or damaged, so that only the whole can be checked."""
    if artifact.parts_sha256 is None:
        return None
    try:
        sums = objects.read(artifact.parts_path)
    except ObjectMissing:
        sums = b""
    if hashlib.sha256(sums).hexdigest() == artifact.parts_sha256:
        return sums
    _log.warning("the sums of the parts of a file are damaged", path=artifact.parts_path)
    return None


def checked_range(
    objects: ObjectStore, artifact: Artifact, sums: bytes, start: int, end: int
) -> Iterator[bytes]:
    """The bytes `[start, end)` of an artifact; each part is checked before any of it is given.

    Args:
        sums: of its parts.

    Raises:
        CorruptArtifact: a part is not what was written; nothing of it was given.
        NotFound: the artifact is gone.
    """
    require_there(objects, artifact)
    for number in range(start // PART_BYTES, -(-end // PART_BYTES)):
        first = number * PART_BYTES
        last = min(first + PART_BYTES, artifact.bytes)
        try:
            part = b"".join(objects.stream(artifact.path, first, last))
        except ObjectMissing:
            raise NotFound(f"the file {artifact.name} is gone") from None
        expected = sums[number * _SUM_BYTES : (number + 1) * _SUM_BYTES]
        if hashlib.sha256(part).digest() != expected:
            raise damaged(artifact)
        yield part[max(start - first, 0) : end - first]


def require_there(objects: ObjectStore, artifact: Artifact) -> None:
    """Look whether an artifact is there and as long as it was, without reading it.

    Raises:
        CorruptArtifact: it is longer or shorter.
        NotFound: it is gone.
    """
    info = objects.info(artifact.path)
    if info is None:
        raise NotFound(f"the file {artifact.name} is gone")
    if info.size != artifact.bytes:
        raise damaged(artifact)


def damaged(artifact: Artifact) -> CorruptArtifact:
    return CorruptArtifact(
        f"the stored file {artifact.name} is damaged: its SHA-256 is not the recorded one"
    )
