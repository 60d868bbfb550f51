"""Stored JSON, perhaps written by another version of Scalpel.

`schema_version` is a record's major version. Within it a later version may add fields, which an
earlier one ignores; a later major version is refused, so that nothing is misread.
"""

from __future__ import annotations

import json
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.config import ExtraValues

from models_store.errors import CorruptArtifact, NewerRecord

M = TypeVar("M", bound=BaseModel)


def parse_stored(kind: type[M], data: bytes, what: str, *, strict: bool = False) -> M:
    """What was stored as a model with a `schema_version`.

    Args:
        what: the words for it in errors.
        strict: refuse unknown fields, since nothing shows that the bytes are those written.

    Raises:
        NewerRecord: its major version is later than this program's.
        CorruptArtifact: it is not such a model.
    """
    known: int = kind.model_fields["schema_version"].default
    # A model that keeps unknown fields keeps them either way.
    extra: ExtraValues | None = "forbid" if strict else "ignore"
    if kind.model_config.get("extra") == "allow":
        extra = None
    try:
        parsed = kind.model_validate_json(data, extra=extra)
    except ValidationError as error:
        _require_known(_version(data), known, what)
        raise CorruptArtifact(
            f"{what} cannot be read as {kind.__name__}: {error.error_count()} fields are wrong, "
            f"the first: {error.errors()[0]['msg']}"
        ) from error
    _require_known(parsed.schema_version, known, what)  # type: ignore[attr-defined]
    return parsed


def _version(data: bytes) -> object:
    try:
        return json.loads(data)["schema_version"]
    except (ValueError, TypeError, KeyError):
        return None


def _require_known(version: object, known: int, what: str) -> None:
    if isinstance(version, int) and version > known:
        raise NewerRecord(
            f"{what} has the format {version}, and this version of Scalpel reads {known}: it was "
            "written by a later one, which still reads it"
        )
