"""What the page of the API shows of its description (OpenAPI), such as types in words.

The page is our own since it runs no script and fetches nothing from elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_METHODS = ("get", "post", "put", "patch", "delete")
_REF = "#/components/schemas/"
_BOUNDS = (
    ("minimum", "≥ {:.16g}"),
    ("exclusiveMinimum", "> {:.16g}"),
    ("maximum", "≤ {:.16g}"),
    ("exclusiveMaximum", "< {:.16g}"),
    ("minLength", "at least {} characters"),
    ("maxLength", "at most {} characters"),
    ("minItems", "at least {} items"),
    ("maxItems", "at most {} items"),
    ("maxProperties", "at most {} names"),
    ("pattern", "matches {}"),
)

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Piece:
    """Some words of a type; those that name a schema lead to it."""

    text: str
    schema: str | None = None


def calls(document: Schema) -> dict[str, list[dict[str, Any]]]:
    """Every operation by its tag, in the order of the document, with its method and path."""
    by_tag: dict[str, list[dict[str, Any]]] = {}
    for path, operations in document["paths"].items():
        for method in _METHODS:
            if method in operations:
                call = {**operations[method], "method": method.upper(), "path": path}
                call["anchor"] = f"{method}-{path.strip('/').replace('/', '-')}"
                by_tag.setdefault(call["tags"][0], []).append(call)
    return by_tag


def schemas(document: Schema) -> dict[str, Schema]:
    """Every schema that has fields, by name."""
    return {
        name: schema
        for name, schema in sorted(document["components"]["schemas"].items())
        if "properties" in schema
    }


def type_in_words(schema: Schema) -> Iterator[Piece]:
    """The words for a schema's type, with its bounds."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_REF)
        yield Piece(name, name)
    elif "anyOf" in schema or "oneOf" in schema:
        yield from _joined(schema.get("anyOf") or schema["oneOf"])
    elif "enum" in schema:
        yield Piece(" or ".join(json.dumps(value) for value in schema["enum"]))
    elif "const" in schema:
        yield Piece(json.dumps(schema["const"]))
    elif schema.get("type") == "array":
        yield Piece("list of ")
        yield from type_in_words(schema.get("items", {}))
    elif isinstance(schema.get("additionalProperties"), dict):
        yield Piece("object of ")
        yield from type_in_words(schema["additionalProperties"])
    else:
        yield Piece(schema.get("type", "anything"))
    bounds = [form.format(schema[name]) for name, form in _BOUNDS if name in schema]
    if bounds:
        yield Piece(f" ({', '.join(bounds)})")


def _joined(alternatives: Sequence[Schema]) -> Iterator[Piece]:
    for number, alternative in enumerate(alternatives):
        if number:
            yield Piece(" or ")
        yield from type_in_words(alternative)
