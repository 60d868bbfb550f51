"""Schemas as types of Python: models of pydantic, and typed dictionaries of what is sent."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from codegen.document import Document, Schema, page_item, reference

_SCALARS = {
    "boolean": "bool",
    "integer": "int",
    "null": "None",
    "number": "float",
    "string": "str",
}
_RENAMED = {
    "BehaviorView": "StoredBehavior",
    "ErrorView": "WorkError",
    "FileView": "ExportFile",
    "ImportedView": "ImportedFrom",
    "ModelView": "ServedModel",
    "Models": "ModelList",
    "Report": "Receipt",
    "ShareView": "TextShare",
}
_BASES = {"Report": "ReceiptModel"}
"""By schema: the base class of its model, where it is another one than `Model`."""
_UNIONS = {
    "Item": ("Behavior", "undesired", "items"),
    "Method": ("EditBody", "method"),
    "Source": ("BaseModelSpec", "source"),
    "EventName": ("WebhookBody", "events", "items"),
}
"""Names of types that are sent in several places: the schema where one is, and the way there."""
_WIDTH = 96
_ANY = "JsonValue"
_FIXED = ("object",)
"""Constants that need not be given."""


def model_name(schema: str) -> str:
    return _RENAMED.get(schema, schema.removesuffix("View"))


def params_name(schema: str) -> str:
    return re.sub("(Body|View)$", "", schema) + "Params"


class Types:
    """Types of one side: of responses, which may have unknown values, or of requests."""

    def __init__(self, document: Document, *, requests: bool, prefix: str = "") -> None:
        """Args:
        prefix: of the names of typed dictionaries.
        """
        self._document = document
        self._requests = requests
        self._prefix = prefix
        self._unions: dict[str, str] = {}
        if requests:
            self._unions = {name: self.of(self._at(*way)) for name, way in _UNIONS.items()}

    @property
    def unions(self) -> dict[str, str]:
        """By name: the types of requests that have one."""
        return self._unions

    def _at(self, schema: str, field: str, *way: str) -> Schema:
        found: Schema = self._document.schemas[schema]["properties"][field]
        for name in way:
            found = found[name]
        return found

    def of(self, schema: Schema) -> str:
        """The type of one schema, as an expression."""
        expression = self._expression(schema)
        for name, union in self._unions.items():
            expression = expression.replace(union, self._prefix + name)
        return expression

    def _expression(self, schema: Schema) -> str:
        parts = list(dict.fromkeys(self._parts(schema)))
        if "None" in parts:
            parts = [part for part in parts if part != "None"] + ["None"]
        joined = " | ".join(parts)
        references = [option for option in schema.get("oneOf", ()) if "$ref" in option]
        if not self._requests and len(references) > 1:
            # What a newer server has in addition is read as any object.
            return f'Annotated[{joined} | Unknown, Field(union_mode="left_to_right")]'
        return joined

    def _parts(self, schema: Schema) -> Iterator[str]:
        if "$ref" in schema:
            yield from self._named(reference(schema))
        elif "const" in schema:
            yield f"Literal[{schema['const']!r}]"
        elif "enum" in schema:
            yield f"Literal[{', '.join(map(repr, schema['enum']))}]"
            if not self._requests:
                yield "str"
        elif "anyOf" in schema or "oneOf" in schema:
            for option in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
                yield self.of(option)
        elif schema.get("type") == "array":
            yield f"{self._collection[0]}[{self.of(schema.get('items', {}))}]"
        elif schema.get("type") == "object":
            values = schema.get("additionalProperties")
            yield f"{self._collection[1]}[str, {self.of(values) if values else 'Any'}]"
        else:
            yield _SCALARS.get(schema.get("type", ""), "Any")

    @property
    def _collection(self) -> tuple[str, str]:
        return ("Sequence", "Mapping") if self._requests else ("list", "dict")

    def _named(self, name: str) -> Iterator[str]:
        if name == _ANY:
            yield "Any"
        elif "properties" not in self._document.schemas[name]:
            yield self.of(self._document.schemas[name])
        else:
            if self._requests:
                yield self._prefix + params_name(name)
            yield f"models.{model_name(name)}" if self._requests else model_name(name)


def models(document: Document) -> str:
    """The source of `models.py`."""
    types = Types(document, requests=False)
    wanted = _classes(document, document.in_requests() | document.in_responses())
    names = [model_name(name) for name in wanted]
    assert len(names) == len(set(names)), "two schemas would have the same model"
    parts = [
        _class(
            document.schemas[name],
            f"class {model_name(name)}({_BASES.get(name, 'Model')}):",
            lambda field, schema, required: _model_field(types, field, schema, required),
        )
        for name in wanted
    ]
    head = '"""What the API answers with, and what it is sent."""\n\n' + _imports(
        "from typing import Annotated, Any, Literal",
        "from pydantic import Field",
        "from scalpel_client._base import Model, ReceiptModel, Unknown",
    )
    return "\n\n".join([head, *parts])


def params(document: Document) -> str:
    """The source of `params.py`."""
    types = Types(document, requests=True)
    parts = [
        _class(
            document.schemas[name],
            f"class {params_name(name)}(TypedDict, total=False):",
            lambda field, schema, required: _params_field(types, field, schema, required),
        )
        for name in _classes(document, document.in_requests())
    ]
    head = '"""What the API is sent, as dictionaries."""\n\n' + _imports(
        "from collections.abc import Mapping, Sequence",
        "from typing import Any, Literal, Required, TypeAlias, TypedDict",
        "from scalpel_client import models",
    )
    unions = [f"{name}: TypeAlias = {union}" for name, union in types.unions.items()]
    return "\n\n".join([head, *parts, *unions])


def _imports(*lines: str) -> str:
    return "\n".join(("from __future__ import annotations\n", *lines)) + "\n"


def _classes(document: Document, names: set[str]) -> list[str]:
    return sorted(
        name
        for name in names
        if "properties" in document.schemas[name] and page_item(document.schemas[name]) is None
    )


def _class(schema: Schema, head: str, field: Callable[[str, Schema, bool], str]) -> str:
    lines = [head]
    if "description" in schema:
        lines += [docstring(schema["description"], "    "), ""]
    required = schema.get("required", ())
    for name, described in schema["properties"].items():
        lines.append(f"    {field(name, described, name in required)}")
        if "description" in described:
            lines.append(docstring(described["description"], "    "))
    return "\n".join(lines)


def _model_field(types: Types, name: str, schema: Schema, required: bool) -> str:
    kind = types.of(schema)
    default: Any = schema.get("default")
    if "const" in schema:
        return f"{name}: {kind}" + (f" = {default!r}" if name in _FIXED else "")
    if required:
        return f"{name}: {kind}"
    if default == [] and kind.startswith("list"):
        return f"{name}: {kind} = Field(default_factory=list)"
    if isinstance(default, (bool, int, float, str)):
        return f"{name}: {kind} = {default!r}"
    return f"{name}: {optional(kind)} = None"


def _params_field(types: Types, name: str, schema: Schema, required: bool) -> str:
    kind = types.of(schema)
    return f"{name}: " + (f"Required[{kind}]" if required or "const" in schema else kind)


def optional(kind: str) -> str:
    return kind if kind.endswith("None") or kind == "Any" else f"{kind} | None"


def _wrapped(line: str, width: int) -> list[str]:
    """What goes on from an indented line, such as the note on an argument, is indented further."""
    spaces = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(line, width, subsequent_indent=spaces + "    " if spaces else "")


def docstring(text: str, indent: str, more: Sequence[str] = ()) -> str:
    lines = [
        part
        for line in (*text.strip().splitlines(), *more)
        for part in _wrapped(line, _WIDTH - len(indent)) or [""]
    ]
    body = f"\n{indent}".join(lines).replace(f"\n{indent}\n", "\n\n")
    end = f"\n{indent}" if len(lines) > 1 else ""
    return f'{indent}"""{body}{end}"""'
