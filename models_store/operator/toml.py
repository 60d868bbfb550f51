"""TOML files that the operator writes, every mistake in them named."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from models_store.errors import FieldError, InvalidRequest

Row = TypeVar("Row")


def read_tables(path: Path, table: str, rows: TypeAdapter[Row], *, setting: str) -> list[Row]:
    """The `[[table]]` tables of a file, in its order.

    Args:
        table: the only key that the file may have.
        rows: what each table must be; a union in it is told apart by a field `type`.
        setting: the environment variable that names the file, for the message when it is away.

    Raises:
        InvalidRequest: the file cannot be read or is not TOML, or a field is wrong; the message
            names the file and each wrong field, such as `scorer.0.url`.
    """
    document = read_document(path, setting=setting)
    entries = document.pop(table, [])
    problems = [
        FieldError(f"/{key}", "unknown_field", f"unknown; write [[{table}]] tables")
        for key in document
    ]
    if not isinstance(entries, list):
        problems.append(FieldError(f"/{table}", "invalid_value", f"write [[{table}]]"))
        entries = []
    found = []
    for index, entry in enumerate(entries):
        try:
            found.append(rows.validate_python(entry))
        except ValidationError as error:
            kind = entry.get("type") if isinstance(entry, dict) else None
            problems += field_errors(error, f"/{table}/{index}", (kind,))
    refuse(path, problems)
    return found


def read_document(path: Path, *, setting: str) -> dict[str, Any]:
    """The whole file; see `read_tables` for the argument and the errors."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidRequest(
            f"{setting}: {path} cannot be read: {error.strerror or error}"
        ) from error
    # Besides its own errors, tomllib lets those of very long numbers and deep nesting through.
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{path} is not valid TOML: {error}") from error


def refuse(path: Path, problems: list[FieldError]) -> None:
    """Raise `InvalidRequest` if there are any problems with the file, naming all of them."""
    if problems:
        listed = "; ".join(f"{p.pointer[1:].replace('/', '.')}: {p.detail}" for p in problems)
        raise InvalidRequest(f"{path}: {listed}", errors=problems)


def field_errors(
    error: ValidationError, prefix: str, members: Collection[object] = ()
) -> list[FieldError]:
    """What pydantic finds wrong with a table that lies at `prefix` in the file.

    Args:
        members: what pydantic may call the member of a union that it tried; it puts that into
            locations, where the file has no such level.
    """
    found = []
    for item in error.errors(include_url=False):
        steps = list(item["loc"])
        if (member := next((step for step in steps if step in members), None)) is not None:
            steps.remove(member)
        # pydantic's own words name classes, of which the file knows nothing.
        no_table = item["type"] in ("model_type", "model_attributes_type")
        detail = "must be a table" if no_table else item["msg"].removeprefix("Value error, ")
        found.append(FieldError("/".join([prefix, *map(str, steps)]), item["type"], detail))
    return found
