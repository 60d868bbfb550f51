"""Artifacts: stored with sums of their parts, of which any range is read checked."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from obstore.store import LocalStore

from models_store.errors import CorruptArtifact, NotFound
from models_store.objects.store import ObjectStore
from models_store.work.artifacts import PART_BYTES, checked_range, part_sums, store_artifact

SIZE = 5 * PART_BYTES + 12_345
DATA = random.Random(0).randbytes(SIZE)


class Counting(ObjectStore):
    """Counts the bytes that are streamed."""

    streamed = 0

    def stream(self, path: str, start: int, end: int) -> Iterator[bytes]:
        self.streamed += end - start
        return super().stream(path, start, end)


@pytest.fixture
def objects(tmp_path: Path) -> Counting:
    store = Counting(LocalStore(tmp_path), root=tmp_path)
    store.open()
    return store


def read(objects: ObjectStore, start: int, end: int, data: bytes | Path = DATA) -> bytes:
    artifact = store_artifact(objects, "weights", "w", data)
    sums = part_sums(objects, artifact)
    assert sums is not None
    return b"".join(checked_range(objects, artifact, sums, start, end))


def test_bytes_and_files_are_stored_alike(objects: ObjectStore, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(DATA)
    first = store_artifact(objects, "weights", "one", DATA)
    second = store_artifact(objects, "weights", "two", file)
    assert first.model_copy(update={"path": "two"}) == second
    assert (first.bytes, first.sha256) == (SIZE, hashlib.sha256(DATA).hexdigest())
    assert objects.read("one") == objects.read("two") == DATA
    sums = part_sums(objects, first)
    assert sums is not None
    assert len(sums) == 6 * 32
    assert sums[32:64] == hashlib.sha256(DATA[PART_BYTES : 2 * PART_BYTES]).digest()
    assert sums[-32:] == hashlib.sha256(DATA[5 * PART_BYTES :]).digest()


def test_parts_are_read_of_each_kind_of_store(any_objects: ObjectStore) -> None:
    assert read(any_objects, 7, 4 * PART_BYTES + 7) == DATA[7 : 4 * PART_BYTES + 7]
    artifact = store_artifact(any_objects, "weights", "w", DATA)
    sums = part_sums(any_objects, artifact)
    assert sums is not None
    any_objects.put("w", DATA[:-1])
    with pytest.raises(CorruptArtifact):
        next(checked_range(any_objects, artifact, sums, 0, 1))


def test_a_small_file_has_no_parts(objects: ObjectStore) -> None:
    artifact = store_artifact(objects, "weights", "w", DATA[: 4 * PART_BYTES])
    assert artifact.paths == ("w",)
    assert part_sums(objects, artifact) is None


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (0, SIZE),
        (0, 1),
        (SIZE - 1, SIZE),
        (PART_BYTES, 2 * PART_BYTES),
        (PART_BYTES - 1, PART_BYTES + 1),
        (7, 4 * PART_BYTES + 7),
        (5, 5),
    ],
)
def test_a_range_is_read_with_the_parts_that_it_touches(
    objects: Counting, start: int, end: int
) -> None:
    assert read(objects, start, end) == DATA[start:end]
    assert objects.streamed <= end - start + 2 * PART_BYTES


@pytest.mark.parametrize("part", range(6))
def test_nothing_of_a_damaged_part_is_given(objects: ObjectStore, part: int) -> None:
    artifact = store_artifact(objects, "weights", "w", DATA)
    sums = part_sums(objects, artifact)
    assert sums is not None
    at = min(part * PART_BYTES + 99, SIZE - 1)
    objects.put("w", DATA[:at] + bytes([DATA[at] ^ 1]) + DATA[at + 1 :])
    given: list[bytes] = []
    with pytest.raises(CorruptArtifact):
        given.extend(checked_range(objects, artifact, sums, 0, SIZE))
    assert b"".join(given) == DATA[: part * PART_BYTES]


def test_a_file_of_another_length_or_none_is_noticed_at_once(objects: ObjectStore) -> None:
    artifact = store_artifact(objects, "weights", "w", DATA)
    sums = part_sums(objects, artifact)
    assert sums is not None
    objects.put("w", DATA[:-1])
    with pytest.raises(CorruptArtifact):
        next(checked_range(objects, artifact, sums, 0, 1))
    objects.delete("w")
    with pytest.raises(NotFound):
        next(checked_range(objects, artifact, sums, 0, 1))


@pytest.mark.parametrize("damage", ["changed", "cut", "lost"])
def test_sums_that_are_damaged_are_not_used(objects: ObjectStore, damage: str) -> None:
    artifact = store_artifact(objects, "weights", "w", DATA)
    sums = objects.read(artifact.parts_path)
    objects.put(artifact.parts_path, sums[:-1] + b"\0" if damage == "changed" else sums[:-32])
    if damage == "lost":
        objects.delete(artifact.parts_path)
    assert part_sums(objects, artifact) is None
