"""Bytes of a tenant: what is counted, and how much of the store is read for it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from obstore.store import LocalStore
from ulid import ULID

from app.domain.accounts.stored_bytes import StoredBytes
from models_store.objects.store import ObjectStore
from models_store.work.store import Place, WorkStore
from tests.support.queued import end_many, queue_many

_DAY = 24 * 3600.0


class SizedStore(ObjectStore):
    """A store that notes which folders were measured."""

    def __init__(self, root: Path) -> None:
        (root / "scalpel-store.json").write_text("{}")
        super().__init__(LocalStore(root), root=root)
        self.sized: list[str] = []

    def size(self, folder: str) -> int:
        self.sized.append(folder)
        return super().size(folder)

    @property
    def buckets_sized(self) -> list[str]:
        """Buckets that were measured since the last call."""
        sized, self.sized = self.sized, []
        return [folder for folder in sized if folder.startswith(("edits", "exports"))]

    @property
    def there(self) -> int:
        return sum(super(SizedStore, self).size(folder) for folder in ("edits", "exports"))


@pytest.fixture
def objects(tmp_path: Path) -> SizedStore:
    return SizedStore(tmp_path)


def edit_id(days_ago: float) -> str:
    return f"edit_{ULID.from_timestamp(time.time() - days_ago * _DAY)}"


def ended(objects: SizedStore, *days_ago: float) -> list[Place]:
    assert objects.root is not None
    return end_many(objects.root, "one", map(edit_id, days_ago))


def bucket(place: Place) -> str:
    return place.folder.rpartition("/")[0]


@pytest.mark.parametrize("stored", [3, 30])
def test_a_count_reads_what_is_new_however_much_is_stored(objects: SizedStore, stored: int) -> None:
    assert objects.root is not None
    ended(objects, *range(1, stored + 1))
    (waiting,) = queue_many(objects.root, "one", 1)
    bytes = StoredBytes(objects, "one")
    assert bytes.count(False) == objects.there
    assert len(objects.buckets_sized) == stored + 1

    assert bytes.count(False) == objects.there
    assert objects.buckets_sized == [bucket(waiting)]
    ended(objects, 0)
    assert bytes.count(False) == objects.there


def test_old_work_is_looked_at_until_it_has_ended(objects: SizedStore) -> None:
    old, older = ended(objects, 3, 6)
    work = WorkStore(objects)
    objects.delete(f"{old.folder}/result.json")
    objects.delete(old.summary)
    objects.create(old.marker, b"{}")
    bytes = StoredBytes(objects, "one")
    bytes.count(False)
    assert objects.buckets_sized == [bucket(older), bucket(old)]

    objects.put(f"{old.attempt(1)}/delta.safetensors", b"1" * 5_000)
    work.cancel("edit", "one", old.id)
    assert bytes.count(False) == objects.there
    assert objects.buckets_sized == [bucket(old)]
    assert bytes.count(False) == objects.there
    assert objects.buckets_sized == []


def test_what_was_deleted_of_old_work_is_seen_by_a_whole_count(objects: SizedStore) -> None:
    (old,) = ended(objects, 3)
    objects.put(old.texts, b"1" * 5_000)
    bytes = StoredBytes(objects, "one")
    before = bytes.count(False)
    WorkStore(objects).delete("edit", "one", old.id)

    assert bytes.count(False) == before
    assert bytes.count(True) == objects.there < before


def test_other_tenants_do_not_count(objects: SizedStore) -> None:
    ended(objects, 3)
    assert StoredBytes(objects, "other").count(False) == 0
