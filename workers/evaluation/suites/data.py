"""The operator's data files: find them, name them in a receipt, and read them line by line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from models_store.errors import BaseModelUnavailable, InvalidRequest
from models_store.operator.suites import DataFile
from workers.runtime.base_models import fetch_data_file

T = TypeVar("T")


@dataclass(frozen=True)
class OpenFile:
    """A data file on this machine."""

    path: Path
    label: str
    """Its name (of a local file without the folders, which are nobody else's business) and the
    digest of its bytes."""


def open_file(file: DataFile, field: str, cache: Path) -> OpenFile:
    """Find a file, or fetch it from the hub into the cache folder.

    Args:
        field: where the operator named it, for errors, such as `toxicity.data`.

    Raises:
        InvalidRequest: it is not there, cannot be read, or cannot be fetched.
    """
    path, name = file.path, file.path.name
    if file.source is not None:
        name = f"{file.source.repo}@{file.source.revision}/{file.path}"
        try:
            path = fetch_data_file(file.source, str(file.path), cache / "suites")
        except BaseModelUnavailable as error:
            raise InvalidRequest(f"{field}: {error.message}") from error
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InvalidRequest(
            f"{field}: {path} cannot be read on this machine: {error.strerror or error}"
        ) from error
    return OpenFile(path, f"{name} sha256:{digest}")


def read_text(file: OpenFile) -> str:
    """A plain text file.

    Raises:
        InvalidRequest: it is not UTF-8.
    """
    try:
        return file.path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{file.path} is not UTF-8 text: {error}") from error


def read_lines(file: OpenFile, parse: Callable[[dict[str, Any]], T | None]) -> list[T]:
    """The items of a JSONL file; empty lines are passed over.

    Args:
        parse: makes an item of a line's object, or None to leave it out; raises ValueError with
            what is wrong.

    Raises:
        InvalidRequest: a line is wrong, which is named by its number; or no item is left.
    """
    items = []
    for number, line in enumerate(read_text(file).split("\n"), 1):
        if not line.strip():
            continue
        try:
            item = parse(_object(line))
        except ValueError as error:
            raise InvalidRequest(f"{file.path}, line {number}: {error}") from error
        if item is not None:
            items.append(item)
    if not items:
        raise InvalidRequest(f"{file.path} has no item for this suite")
    return items


def text_field(fields: dict[str, Any], *names: str) -> str:
    """The text under the first of `names` that is there.

    Raises:
        ValueError: there is none, or it is not a text.
    """
    name = next((each for each in names if each in fields), None)
    if name is None:
        raise ValueError(f"has no field {_either(names)}")
    value = fields[name]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name!r} must be a text that is not empty")
    return value


def _object(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError("must be a JSON object with named fields")
    return value


def _either(names: Sequence[str]) -> str:
    return " or ".join(map(repr, names))
