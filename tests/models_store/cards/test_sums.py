"""Checksums of files, as `sha256sum` has them."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from models_store.cards.sums import SUMS_NAME, check_sums, file_sum, read_sums, write_sums
from models_store.errors import InvalidRequest


def test_sums_are_those_of_sha256sum(tmp_path: Path) -> None:
    files = {"a.bin": b"\0" * 3_000_000, "a name with spaces": b"", "README.md": b"hello"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    (tmp_path / SUMS_NAME).write_bytes(write_sums(sums.items()))
    command = ["sha256sum", "--strict", "-c", SUMS_NAME]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0
    theirs = subprocess.run(["sha256sum", *files], cwd=tmp_path, capture_output=True, text=True)
    assert read_sums(theirs.stdout) == sums
    assert file_sum(tmp_path / "a.bin") == sums["a.bin"]
    assert list(check_sums(tmp_path, sums)) == []


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    (tmp_path / "changed").write_bytes(b"b")
    (tmp_path / "folder").mkdir()
    sum = hashlib.sha256(b"a").hexdigest()
    found = dict(check_sums(tmp_path, dict.fromkeys(("changed", "lost", "folder"), sum)))
    assert found == {"changed": "wrong", "lost": "missing", "folder": "missing"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no file"),
        ("hello\n", "line 1 is no SHA-256"),
        (f"{'0' * 64}  ok\n{'0' * 63}  short\n", "line 2 is no SHA-256"),
        (f"{'0' * 64}  /etc/passwd\n", "outside its folder"),
        (f"{'0' * 64}  a/../../b\n", "outside its folder"),
        (f"{'0' * 64}  ..\\b\n", "outside its folder"),
    ],
)
def test_what_is_no_file_of_sums_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        read_sums(text)
