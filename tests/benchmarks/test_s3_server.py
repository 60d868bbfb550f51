"""The stand-in for S3, through the library that the store uses."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError
from obstore.store import S3Store

from benchmarks.serving.s3_lists import running_s3
from models_store.objects.store import open_store
from models_store.settings import Settings

pytestmark = pytest.mark.system

MANY = 2_500


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """That of a client of a server with a few files, one of which is being written."""
    folder = tmp_path_factory.mktemp("store")
    (folder / "loaded" / "below").mkdir(parents=True)
    (folder / "top").write_bytes(b"top")
    (folder / "loaded" / "below" / "one.json").write_bytes(b"{}")
    (folder / "loaded" / "below" / "two.json#1").write_bytes(b"{")
    with running_s3(folder, delay=0) as environment:
        yield environment


@pytest.fixture
def store(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> S3Store:
    return opened(environment, monkeypatch)


def opened(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> S3Store:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return S3Store(
        "bucket",
        endpoint=environment["SCALPEL_S3_ENDPOINT"],
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )


def create(store: S3Store, path: str, data: bytes = b"") -> bool:
    try:
        obstore.put(store, path, data, mode="create")
    except AlreadyExistsError:
        return False
    return True


def listed(store: S3Store, prefix: str, **options: str) -> list[str]:
    return [meta["path"] for page in obstore.list(store, prefix, **options) for meta in page]


def test_files_are_objects_except_those_being_written(store: S3Store) -> None:
    assert listed(store, "loaded") == ["loaded/below/one.json"]
    assert bytes(obstore.get(store, "top").bytes()) == b"top"


def test_of_creates_of_one_path_at_once_one_wins(store: S3Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda n: create(store, "race/it", b"%d" % n), range(8)))
    assert created.count(True) == 1
    assert bytes(obstore.get(store, "race/it").bytes()) == b"%d" % created.index(True)


def test_a_store_can_be_opened_there(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened(environment, monkeypatch)
    objects = open_store(Settings(data=tmp_path))
    objects.check()
    assert objects.info("top") is not None


def test_a_plain_put_replaces_what_is_there(store: S3Store) -> None:
    for data in (b"one", b"other"):
        obstore.put(store, "replaced", data, use_multipart=False)
    assert bytes(obstore.get(store, "replaced").bytes()) == b"other"
    assert listed(store, "").count("replaced") == 1


def test_parts_of_an_object_are_read_alone(store: S3Store) -> None:
    data = bytes(range(100))
    create(store, "parts", data)
    assert bytes(obstore.get_range(store, "parts", start=10, end=20)) == data[10:20]
    assert bytes(obstore.get_range(store, "parts", start=95, end=100)) == data[95:]
    assert bytes(obstore.get(store, "parts", options={"range": {"suffix": 3}}).bytes()) == data[-3:]
    assert (
        bytes(obstore.get(store, "parts", options={"range": {"offset": 90}}).bytes()) == data[90:]
    )
    with pytest.raises(Exception, match="InvalidRange"):
        obstore.get_range(store, "parts", start=200, end=210)


def test_an_object_says_its_size_and_time(store: S3Store) -> None:
    create(store, "dated", b"12345")
    meta = obstore.head(store, "dated")
    assert meta["size"] == 5
    assert abs(meta["last_modified"].timestamp() - time.time()) < 60
    (again,) = [meta for page in obstore.list(store) for meta in page if meta["path"] == "dated"]
    assert again["size"] == 5
    assert again["e_tag"] == meta["e_tag"]
    with pytest.raises(FileNotFoundError):
        obstore.head(store, "undated")


def test_a_listing_has_every_object_once_in_order_whatever_its_name(store: S3Store) -> None:
    paths = sorted(["names/a&b", "names/a b/c", "names/ä<1>", "names/a+b", "names/a%20b"])
    for path in paths:
        create(store, path)
    assert listed(store, "names") == paths


def test_long_listings_come_in_pages_and_begin_after_an_offset(many: S3Store) -> None:
    paths = [f"many/{number:05}/{name}" for number in range(MANY) for name in ("a", "b")]
    assert listed(many, "many") == paths
    assert listed(many, "many", offset="many/01200/a") == paths[2401:]
    assert listed(many, "many", offset="many/01200") == paths[2400:]


def test_folders_beyond_one_page_are_listed_once_each_without_what_is_in_them(
    many: S3Store,
) -> None:
    found = obstore.list_with_delimiter(many, "many")
    assert sorted(found["common_prefixes"]) == [f"many/{number:05}" for number in range(MANY)]
    assert not found["objects"]
    top = obstore.list_with_delimiter(many, None)
    assert top["common_prefixes"] == ["many"]
    assert [meta["path"] for meta in top["objects"]] == ["plain"]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Store]:
    """Two objects in each of many folders, and one beside them."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(MANY):
        below = folder / "many" / f"{number:05}"
        below.mkdir(parents=True)
        (below / "a").touch()
        (below / "b").touch()
    (folder / "plain").touch()
    with pytest.MonkeyPatch.context() as patch, running_s3(folder, delay=0) as environment:
        yield opened(environment, patch)


def test_what_is_deleted_is_gone_one_at_a_time_or_many(store: S3Store) -> None:
    paths = [f"gone/{number}&" for number in range(5)]
    for path in paths:
        create(store, path)
    obstore.delete(store, paths[0])
    obstore.delete(store, paths[0])
    assert listed(store, "gone") == paths[1:]
    obstore.delete(store, paths[1:4])
    assert listed(store, "gone") == paths[4:]
    with pytest.raises(FileNotFoundError):
        obstore.get(store, paths[1])
    assert create(store, paths[1])


def test_every_response_waits_and_many_wait_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_s3(tmp_path, delay=0.2) as environment:
        store = opened(environment, monkeypatch)
        started = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(lambda n: create(store, f"{n}"), range(8)))
        assert 0.2 <= time.monotonic() - started < 8 * 0.2
