"""Read the operator's TOML files; errors name every wrong field."""

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
        rows: the type of each table; a union is discriminated by a field `type`.
        setting: the environment variable that names the file, for error messages.

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
    valid = []
    for index, entry in enumerate(entries):
        try:
            valid.append(rows.validate_python(entry))
        except ValidationError as error:
            kind = entry.get("type") if isinstance(entry, dict) else None
            problems += field_errors(error, f"/{table}/{index}", (kind,))
    refuse(path, problems)
    return valid


def read_document(path: Path, *, setting: str) -> dict[str, Any]:
    """The whole file; see `read_tables` for the argument and the errors."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidRequest(
            f"{setting}: {path} cannot be read: {error.strerror or error}"
        ) from error
    # tomllib does not wrap the errors of very long numbers and deep nesting.
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
    """The errors of pydantic for the table at `prefix` in the file.

    Args:
        members: names of members of a union, which pydantic adds to locations although the file
            has no such level.
    """
    problems = []
    for item in error.errors(include_url=False):
        steps = list(item["loc"])
        if (member := next((step for step in steps if step in members), None)) is not None:
            steps.remove(member)
        # pydantic's message names classes, which mean nothing to the operator.
        no_table = item["type"] in ("model_type", "model_attributes_type")
        detail = "must be a table" if no_table else item["msg"].removeprefix("Value error, ")
        problems.append(FieldError("/".join([prefix, *map(str, steps)]), item["type"], detail))
    return problems
