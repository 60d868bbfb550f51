"""Names in the folders of a local store, against what the storage library lists."""

from __future__ import annotations

import os
import time
from pathlib import Path

import obstore
import pytest
from obstore.store import LocalStore

from models_store.objects.local_folders import LocalFolders


def make_old(folder: Path) -> None:
    """As if nothing had changed in it for an hour, so that it is remembered."""
    long_ago = time.time() - 3600
    os.utime(folder, (long_ago, long_ago))


def test_names_are_those_that_the_library_lists(tmp_path: Path) -> None:
    store, folders = LocalStore(tmp_path), LocalFolders(tmp_path)
    for path in ("a/1/x.json", "a/1/y/z.bin", "a/2", "b/file"):
        obstore.put(store, path, b"1")
    (tmp_path / "a" / "1" / "half#7").write_bytes(b"being written")

    assert list(folders.entries("a").items()) == [("1", True), ("2", False)]
    for remember in (True, False):
        for folder in ("a", "b", "a/1", "nothing", "b/file"):
            listed = sorted(one["path"] for part in obstore.list(store, folder) for one in part)
            expected = [] if folder == "b/file" else listed
            assert sorted(folders.below(folder, remember=remember)) == expected


def test_what_came_and_went_is_noticed_in_a_folder_that_was_remembered(tmp_path: Path) -> None:
    folders = LocalFolders(tmp_path)
    (tmp_path / "open").mkdir()
    for number in range(5):
        make_old(tmp_path / "open")
        assert len(folders.entries("open")) == number
        assert folders.entries("open") is folders.entries("open"), "it is remembered"
        (tmp_path / "open" / str(number)).write_bytes(b"1")
    (tmp_path / "open" / "0").unlink()
    assert sorted(folders.entries("open")) == ["1", "2", "3", "4"]


def test_a_folder_that_has_just_changed_is_read_each_time(tmp_path: Path) -> None:
    folders = LocalFolders(tmp_path)
    (tmp_path / "open").mkdir()
    when = (tmp_path / "open").stat()
    folders.entries("open")
    (tmp_path / "open" / "new").write_bytes(b"1")
    # A file system whose times are so coarse that the change does not show.
    os.utime(tmp_path / "open", ns=(when.st_atime_ns, when.st_mtime_ns))
    assert list(folders.entries("open")) == ["new"]


def test_a_file_is_read_up_to_a_size(tmp_path: Path) -> None:
    folders = LocalFolders(tmp_path)
    (tmp_path / "file").write_bytes(b"12345")
    assert folders.read("file", 5) == b"12345"
    assert folders.read("file", 4) is None
    for path in ("absent", "file/below", "."):
        with pytest.raises(FileNotFoundError):
            folders.read(path, 5)


def test_a_file_appears_as_a_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = LocalFolders(tmp_path)
    assert folders.create("a/b/one", b"first", flush=False)
    assert not folders.create("a/b/one", b"second", flush=False)
    assert folders.read("a/b/one", 100) == b"first"

    def fails(*_: object) -> None:
        assert (tmp_path / "a" / "b" / "two").exists() is False
        raise OSError("the disk is gone")

    monkeypatch.setattr(os, "link", fails)
    with pytest.raises(OSError, match="the disk is gone"):
        folders.create("a/b/two", b"2" * 1_000_000, flush=False)
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["one"]


def test_whether_there_is_a_file(tmp_path: Path) -> None:
    folders = LocalFolders(tmp_path)
    folders.create("a/one", b"1", flush=False)
    paths = ("a/one", "a/two", "nothing/one", "a/one/two")
    assert [folders.exists(path) for path in paths] == [True, False, False, False]
