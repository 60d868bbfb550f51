"""Objects by path: one winner a create, and every failure of the storage has a name."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError
from obstore.store import LocalStore
from obstore.store import ObjectStore as ObjectBackend

from models_store.errors import CorruptArtifact, InvalidRequest, NotFound, Unavailable
from models_store.objects import store as objects_module
from models_store.objects.checksum import with_checksum
from models_store.objects.store import PROBES, ObjectMissing, ObjectStore, open_store
from models_store.schemas.base import Record
from models_store.settings import Settings
from tests.support.stores import open_kind


class Note(Record):
    text: str


put = obstore.put


def through_the_library(folder: Path) -> ObjectStore:
    """A store that is used as one on a server is."""
    return ObjectStore(LocalStore(folder))


def test_a_second_create_is_refused(any_objects: ObjectStore) -> None:
    assert any_objects.create("a/b", b"first")
    assert not any_objects.create("a/b", b"second")
    assert any_objects.read("a/b") == b"first"


def test_of_many_creates_at_once_one_wins(any_objects: ObjectStore) -> None:
    for round_number in range(5):
        path = f"race/{round_number}"

        def create(number: int, path: str = path) -> bool:
            return any_objects.create_record(path, Note(text=str(number)))

        with ThreadPoolExecutor(6) as pool:
            won = list(pool.map(create, range(6)))
        assert won.count(True) == 1
        stored = any_objects.read_record(path, Note)
        assert stored is not None
        assert stored.text == str(won.index(True))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "rounds"), [("file", 1000), ("s3", 100)])
def test_of_eight_creates_at_once_one_wins_every_time(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, rounds: int
) -> None:
    objects, start = open_kind(request, tmp_path, kind), threading.Barrier(8)

    def create(number: int) -> list[bool]:
        won = []
        for turn in range(rounds):
            start.wait(60)
            won.append(objects.create(f"race/{turn}", str(number).encode()))
        return won

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(create, range(8)))
    for turn, of_turn in enumerate(zip(*won, strict=True)):
        assert of_turn.count(True) == 1, (turn, of_turn)
        assert objects.read(f"race/{turn}") == str(of_turn.index(True)).encode()


def test_ones_own_write_is_a_success_even_when_the_store_denies_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may store, answer 500, and refuse the library's retry."""
    objects = through_the_library(tmp_path)
    put = obstore.put

    def stored_but_denied(*arguments: object, **options: object) -> None:
        put(*arguments, **options)
        raise AlreadyExistsError("it is there already")

    monkeypatch.setattr(objects_module.obstore, "put", stored_but_denied)
    assert objects.create_record("a", Note(text="mine"))
    assert not objects.create_record("a", Note(text="another's"))


def test_objects_are_put_read_listed_and_removed(any_objects: ObjectStore) -> None:
    store = any_objects
    store.put("f/one", b"1" * 10)
    store.put("f/deep/two", iter([b"2" * 5, b"3" * 5]))
    store.put("g/three", b"")
    assert [(info.path, info.size) for info in store.files("f")] == [
        ("f/deep/two", 10),
        ("f/one", 10),
    ]
    assert store.children("f") == ["deep", "one"]
    assert set(store.children("")) >= {"f", "g"}
    assert store.files("nowhere") == []
    assert store.children("nowhere") == []
    assert store.read("f/deep/two") == b"22222" + b"33333"
    info = store.info("f/one")
    assert info is not None
    assert abs(info.modified_at - time.time()) < 60
    assert b"".join(store.stream("f/deep/two", 3, 8)) == b"22333"
    assert store.info("f/none") is None
    for _ in range(2):  # removing what is not there is fine
        store.delete("f/one")
    assert store.info("f/one") is None
    with pytest.raises(ObjectMissing):
        store.read("f/one")
    with pytest.raises(ObjectMissing):
        list(store.stream("f/one", 0, 1))


def test_large_objects_are_streamed_whole(any_objects: ObjectStore) -> None:
    data = os.urandom(2**20 * 2 + 17)
    any_objects.put("large", data)
    assert b"".join(any_objects.stream("large", 0, len(data))) == data


def test_chunks_of_many_parts_become_one_object(any_objects: ObjectStore) -> None:
    data = os.urandom(2**20 * 35 + 17)
    any_objects.put("chunks", (data[at : at + 2**22] for at in range(0, len(data), 2**22)))
    assert any_objects.read("chunks") == data


def test_chunks_that_break_off_store_nothing(any_objects: ObjectStore) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"1" * 2**22
        raise OSError("the disk is gone")

    with pytest.raises(Unavailable):
        any_objects.put("chunks", chunks())
    assert any_objects.info("chunks") is None


def test_a_record_comes_back_as_it_was(any_objects: ObjectStore) -> None:
    note = Note(text="a")
    assert any_objects.create_record("n", note)
    assert any_objects.read_record("n", Note) == note
    assert any_objects.read_record("m", Note) is None


@pytest.mark.parametrize("data", [b"", b"{", b'{"text": 5}', b'{"more": 1}', b"\xff"])
def test_what_is_no_record_is_corrupt(objects: ObjectStore, data: bytes) -> None:
    objects.put("n", data)
    with pytest.raises(CorruptArtifact, match="Note"):
        objects.read_record("n", Note)


def test_what_is_too_large_for_a_record_is_not_parsed(any_objects: ObjectStore) -> None:
    any_objects.put("large", b" " * (64 * 2**20) + b'{"text": "a"}')
    with pytest.raises(CorruptArtifact, match="large"):
        any_objects.read_record("large", Note)


@pytest.mark.parametrize("path", ["../out", "a/../../out", "a//b", "a/./b"])
def test_no_path_leads_out_of_the_store(objects: ObjectStore, path: str) -> None:
    for action in (objects.read, objects.info, objects.files):
        with pytest.raises(NotFound):
            action(path)
    with pytest.raises(NotFound):
        objects.create(path, b"")


def test_a_folder_that_went_away_is_not_made_anew(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    store = open_store(settings)
    store.create("a", b"1")
    store.check()
    folder = tmp_path / "store"
    folder.rename(tmp_path / "away")
    for action in (
        lambda: store.create("b", b"2"),
        lambda: store.put("b", b"2"),
        lambda: store.read("a"),
        lambda: store.files(""),
        store.check,
    ):
        with pytest.raises(Unavailable) as caught:
            action()
        assert caught.value.code == "store_unavailable"
    assert not folder.exists()
    (tmp_path / "away").rename(folder)
    store.check()
    assert store.read("a") == b"1"


def test_a_store_that_cannot_be_reached_is_unavailable(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(store_url=f"s3://{s3_bucket}", s3_endpoint="http://127.0.0.1:9")
    with pytest.raises(Unavailable) as caught:
        open_store(settings)
    assert caught.value.code == "store_unavailable"


@pytest.mark.parametrize("url", ["ftp://a/b", "file://host/a", "s3://", "/just/a/path"])
def test_an_address_of_no_store_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="SCALPEL_STORE_URL"):
        open_store(Settings(store_url=url))


def ignores_the_condition(
    backend: ObjectBackend, path: str, data: bytes, mode: str = "overwrite"
) -> None:
    """As some servers do that look like S3."""
    put(backend, path, data)


def looks_and_then_writes(
    backend: ObjectBackend, path: str, data: bytes, mode: str = "overwrite"
) -> None:
    """Refuses a second create, but not one that comes at the same time."""
    if mode == "create":
        try:
            obstore.head(backend, path)
        except FileNotFoundError:
            time.sleep(0.02)
        else:
            raise AlreadyExistsError(path)
    put(backend, path, data)


@pytest.mark.parametrize("server", [ignores_the_condition, looks_and_then_writes])
def test_a_store_in_which_two_creates_win_is_refused_however_often_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Callable[..., None]
) -> None:
    objects = through_the_library(tmp_path)
    monkeypatch.setattr(objects_module.obstore, "put", server)
    for _ in range(3):
        with pytest.raises(InvalidRequest, match="conditional creates"):
            objects.open()
    assert objects.children("") == [PROBES]


def test_a_store_from_before_that_two_creates_win_in_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    through_the_library(tmp_path).open()
    monkeypatch.setattr(objects_module.obstore, "put", ignores_the_condition)
    with pytest.raises(InvalidRequest, match="conditional creates"):
        through_the_library(tmp_path).open()


def test_every_opening_finds_one_winner(any_objects: ObjectStore) -> None:
    for _ in range(20):
        any_objects.open()
    assert any_objects.children(PROBES) == []


def test_a_store_of_another_format_is_refused(tmp_path: Path) -> None:
    open_store(Settings(data=tmp_path))
    marker = tmp_path / "store" / "scalpel-store.json"
    body = b'{"format": "scalpel-store/2"}'
    for later in (body, with_checksum(marker.name, body)):
        marker.write_bytes(later)
        with pytest.raises(InvalidRequest, match="as new as the one that wrote it"):
            open_store(Settings(data=tmp_path))


@pytest.mark.parametrize("damaged", [b"", b"[]", b'{"sha256":"0","format": "scalpel-store/2"}'])
def test_a_damaged_marker_keeps_nobody_from_the_rest(tmp_path: Path, damaged: bytes) -> None:
    open_store(Settings(data=tmp_path)).create("a", b"1")
    (tmp_path / "store" / "scalpel-store.json").write_bytes(damaged)
    assert open_store(Settings(data=tmp_path)).read("a") == b"1"


def test_a_full_store_opens_for_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data=tmp_path)
    open_store(settings).create("a", b"1")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    assert open_store(settings).read("a") == b"1"
    with pytest.raises(Unavailable) as caught:
        open_store(settings.model_copy(update={"data": tmp_path / "new"}))
    assert caught.value.code == "store_full"


def test_an_opened_store_keeps_what_is_in_it(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    assert open_store(settings).create("a/b/c", b"1")
    again = open_store(settings)
    assert again.read("a/b/c") == b"1"
    assert not again.create("a/b/c", b"2")


def test_a_record_is_on_disk_with_its_folders_before_it_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Settings.model_fields["fsync"].default is True
    store = open_store(Settings(data=tmp_path, fsync=True))
    flushed: list[str] = []
    flush = os.fsync

    def noted(descriptor: int) -> None:
        flushed.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    assert store.create("a/b/c", b"1")
    root = tmp_path / "store"
    staged, *after = flushed
    assert staged.startswith(f"{root}/a/b/c#")  # before it has its name
    assert after == [str(root / path) for path in ("a/b", "a", "")]

    # What is above a folder was flushed with its first file.
    flushed.clear()
    assert store.create("a/b/d", b"1")
    assert flushed[1:] == [str(root / "a/b")]
    flushed.clear()
    store.put("a/e/f", b"1")
    assert flushed == [str(root / path) for path in ("a/e/f", "a/e", "a")]


def test_what_dead_writers_left_is_removed(tmp_path: Path) -> None:
    store = open_store(Settings(data=tmp_path))
    store.create("f/a", b"1")
    left = tmp_path / "store" / "f" / "a#1"
    left.write_bytes(b"half")
    assert store.remove_temporary_files(before=time.time() - 100) == 0
    assert store.remove_temporary_files(before=time.time() + 100) == 1
    assert not left.exists()
    assert store.read("f/a") == b"1"
