"""SHA-256 sums of files, as `sha256sum` writes and checks them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from models_store.errors import InvalidRequest

SUMS_NAME = "SHA256SUMS"
_LINE = re.compile(r"(?P<sum>[0-9a-f]{64}) [ *](?P<name>[^\0\n]+)")


def write_sums(sums: Iterable[tuple[str, str]]) -> bytes:
    """The file of sums by name."""
    return "".join(f"{sum}  {name}\n" for name, sum in sums).encode()


def read_sums(text: str) -> Mapping[str, str]:
    """The sums by name.

    Raises:
        InvalidRequest: it is no file of sums, or names a file outside its folder.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise InvalidRequest(f"{SUMS_NAME}: line {number} is no SHA-256 and a name")
        path = PurePosixPath(match["name"])
        if path.is_absolute() or ".." in path.parts or "\\" in match["name"]:
            raise InvalidRequest(f"{SUMS_NAME}: {match['name']!r} is outside its folder")
        found[match["name"]] = match["sum"]
    if not found:
        raise InvalidRequest(f"{SUMS_NAME} names no file")
    return found


def check_sums(folder: Path, sums: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Files that are wrong, each with what is: `missing`, or `wrong`."""
    for name, expected in sums.items():
        path = folder / name
        if not path.is_file():
            yield name, "missing"
        elif file_sum(path) != expected:
            yield name, "wrong"


def file_sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
