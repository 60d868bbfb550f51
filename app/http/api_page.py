"""The API's description (OpenAPI) as a page that people can read: nothing is fetched from
elsewhere, so it works where there is no internet.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_METHODS = ("get", "post", "put", "patch", "delete")
_REF = "#/components/schemas/"
_PAGE_OF = re.compile(r"^Page_(\w+)_$")
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


@dataclass(frozen=True)
class Field:
    """A parameter of a call or a property of a schema."""

    name: str
    type: tuple[Piece, ...]
    required: bool
    default: str | None
    """As JSON."""
    text: str
    place: str = ""
    """Of a parameter: `path`, `query` or `header`."""


@dataclass(frozen=True)
class Content:
    """A body, or an answer of a status."""

    type: tuple[Piece, ...]
    media_type: str = ""
    status: str = ""
    text: str = ""


@dataclass(frozen=True)
class Call:
    method: str
    path: str
    summary: str
    text: str
    parameters: tuple[Field, ...]
    bodies: tuple[Content, ...]
    answers: tuple[Content, ...]

    @property
    def anchor(self) -> str:
        return f"{self.method.lower()}-{self.path.strip('/').replace('/', '-')}"


@dataclass(frozen=True)
class Described:
    """A schema by name."""

    name: str
    text: str
    fields: tuple[Field, ...]


def calls(document: Schema) -> dict[str, list[Call]]:
    """Every call by its tag, in the order of the document."""
    found: dict[str, list[Call]] = {}
    for path, operations in document["paths"].items():
        for method in _METHODS:
            if method in operations:
                operation = operations[method]
                call = _call(method.upper(), path, operation)
                found.setdefault(operation["tags"][0], []).append(call)
    return found


def schemas(document: Schema) -> list[Described]:
    """Every schema that has fields, by name; pages of a list are told by what they list."""
    return [
        Described(name, schema.get("description", ""), tuple(_fields(schema)))
        for name, schema in sorted(document["components"]["schemas"].items())
        if "properties" in schema and not _PAGE_OF.match(name)
    ]


def _call(method: str, path: str, operation: Schema) -> Call:
    return Call(
        method=method,
        path=path,
        summary=operation["summary"],
        text=operation.get("description", ""),
        parameters=tuple(
            _field(one["name"], one["schema"], one["required"], one["in"])
            for one in operation.get("parameters", ())
        ),
        bodies=tuple(_contents(operation.get("requestBody", {}).get("content", {}))),
        answers=tuple(_answers(operation["responses"])),
    )


def _contents(content: Schema, **described: str) -> Iterator[Content]:
    for media_type, one in content.items():
        schema = one.get("schema")
        yield Content(tuple(_type(schema)) if schema else (), media_type, **described)


def _answers(responses: Schema) -> Iterator[Content]:
    for status, response in responses.items():
        if "$ref" in response:
            continue  # errors, which are the same everywhere
        text = response["description"].removeprefix("Successful Response")
        contents = list(_contents(response.get("content", {}), status=status, text=text))
        yield from contents or [Content((), status=status, text=text)]


def _fields(schema: Schema) -> Iterator[Field]:
    required = schema.get("required", ())
    for name, one in schema["properties"].items():
        yield _field(name, one, name in required)


def _field(name: str, schema: Schema, required: bool, place: str = "") -> Field:
    default = json.dumps(schema["default"]) if "default" in schema else None
    return Field(
        name, tuple(_type(schema)), required, default, schema.get("description", ""), place
    )


def _type(schema: Schema) -> Iterator[Piece]:
    """The words for a schema's type, with its bounds."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_REF)
        page = _PAGE_OF.match(name)
        if page:
            yield Piece("page of ")
        yield Piece(page[1] if page else name, page[1] if page else name)
    elif "anyOf" in schema or "oneOf" in schema:
        yield from _joined(schema.get("anyOf") or schema["oneOf"])
    elif "enum" in schema:
        yield Piece(" or ".join(json.dumps(value) for value in schema["enum"]))
    elif "const" in schema:
        yield Piece(json.dumps(schema["const"]))
    elif schema.get("type") == "array":
        yield Piece("list of ")
        yield from _type(schema.get("items", {}))
    elif isinstance(schema.get("additionalProperties"), dict):
        yield Piece("object of ")
        yield from _type(schema["additionalProperties"])
    else:
        yield Piece(schema.get("type", "anything"))
    bounds = [form.format(schema[name]) for name, form in _BOUNDS if name in schema]
    if bounds:
        yield Piece(f" ({', '.join(bounds)})")


def _joined(alternatives: Sequence[Schema]) -> Iterator[Piece]:
    for number, one in enumerate(alternatives):
        if number:
            yield Piece(" or ")
        yield from _type(one)
