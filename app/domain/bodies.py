"""What all bodies of requests, and all of responses, have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from annotated_types import GroupedMetadata
from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema

from models_store.schemas.base import Documented, DocumentedModel


class RequestBody(DocumentedModel):
    """A JSON object that a client sends: no other fields than those named."""


class View(Documented):
    """Part of a response. Attribute docstrings are the descriptions of its fields."""

    model_config = ConfigDict(frozen=True)


_NOT_SUPPORTED = "Not supported: leave it out, or at the value that requests nothing."


class WithoutEffect(GroupedMetadata):
    """Of a field that may be there as long as it requests nothing."""

    def __init__(self, *allowed: Any) -> None:
        self._allowed = allowed

    def __iter__(self) -> Iterator[object]:
        yield AfterValidator(self._check)
        yield WithJsonSchema(
            {"anyOf": list(map(_schema_of, self._allowed)), "description": _NOT_SUPPORTED}
        )

    def _check(self, value: Any) -> Any:
        if value not in self._allowed:
            raise ValueError("is not supported here: leave it out")
        return value


def _schema_of(value: Any) -> dict[str, Any]:
    """The JSON schema of one value, in words that generators of clients understand."""
    if isinstance(value, list):
        items = {"enum": value} if value else {}
        return {"type": "array", "items": items, "minItems": len(value), "maxItems": len(value)}
    if isinstance(value, dict):
        fields = {
            name: {"const": own, "description": "No other value."} for name, own in value.items()
        }
        return {"type": "object", "properties": fields, "required": list(fields)}
    return {"type": "null"} if value is None else {"enum": [value]}


NotSupported = Annotated[Any, WithoutEffect(None)]
NoList = Annotated[Any, WithoutEffect(None, [])]
Ignored = Annotated[Any, Field(description="Accepted; it has no effect.")]
