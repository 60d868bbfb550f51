"""The calls of the API as methods, one class for each resource."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

from codegen.document import Document, Operation, Schema, page_item, reference
from codegen.types import Types, docstring, model_name, optional

_KEY_NOTE = "By default one of its own, which repeats of the request keep."


def calls(document: Document) -> dict[str, str]:
    """By resource: the source of its module."""
    found: dict[str, list[Operation]] = defaultdict(list)
    for operation in document.operations:
        if not operation.is_stream:
            found[operation.resource].append(operation)
    return {name: _module(document, name, operations) for name, operations in found.items()}


def class_name(resource: str) -> str:
    return "Async" + "".join(part.title() for part in resource.split("_"))


def _module(document: Document, resource: str, operations: list[Operation]) -> str:
    methods = [_method(document, operation) for operation in operations]
    head = f'''"""Calls under `{resource}`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from scalpel_client import models, params
from scalpel_client._async.download import AsyncDownload
from scalpel_client._async.pager import AsyncPager
from scalpel_client._async.transport import AsyncTransport
from scalpel_client._shared.encoding import metadata_query, new_key, segment


class {class_name(resource)}:
    """Calls under `{resource}`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
'''
    return "\n".join([head, *methods])


class _Method:
    """What one operation takes, and where each value goes."""

    def __init__(self, document: Document, operation: Operation) -> None:
        self._types = Types(document, requests=True, prefix="params.")
        self.positional = [one["name"] for one in operation.parameters("path")]
        self.required: list[str] = []
        self.optional: list[str] = []
        self.notes: list[str] = []
        body = document.resolve(operation.body) if operation.body else {}
        fields = body.get("properties", {})
        self.query = [
            # What the body says already is a parameter for bodies of another type.
            self._query(one)
            for one in operation.parameters("query")
            if one["name"] not in fields
        ]
        self.body = [self._field(name, fields[name], body) for name in fields]
        if operation.is_keyed:
            self._keyword("idempotency_key", "str | None", False, _KEY_NOTE)

    def _query(self, described: Mapping[str, object]) -> str:
        """Its name here, and as it is sent where that is another one."""
        name, schema = str(described["name"]), described["schema"]
        assert isinstance(schema, dict)
        note = str(described.get("description", ""))
        if name == "metadata[key]":
            self._keyword("metadata", "Mapping[str, str] | None", False, "Only those with these.")
            return "**metadata_query(metadata)"
        self._keyword(name, optional(self._types.of(schema)), False, note)
        return f"{name!r}: {name}"

    def _field(self, name: str, schema: Schema, body: Schema) -> str:
        required = name in body.get("required", ())
        kind = self._types.of(schema)
        nullable = kind.endswith("None")
        assert not nullable or schema.get("default") is None, f"null of {name} is not its absence"
        kind = kind if required else optional(kind)
        self._keyword(name, kind, required, schema.get("description", ""))
        return f"{name!r}: {name}"

    def _keyword(self, name: str, kind: str, required: bool, note: str) -> None:
        if required:
            self.required.append(f"{name}: {kind}")
        else:
            self.optional.append(f"{name}: {kind} = None")
        if note:
            self.notes.append(f"{name}: " + " ".join(note.split()))

    @property
    def signature(self) -> str:
        keywords = [*self.required, *self.optional]
        star = ["*"] if keywords else []
        return ", ".join(["self", *(f"{name}: str" for name in self.positional), *star, *keywords])


def _method(document: Document, operation: Operation) -> str:
    method = _Method(document, operation)
    described = operation.described
    text = "\n\n".join(
        part for part in (f"{described['summary']}.", described.get("description")) if part
    )
    notes = ["", "Args:", *(f"    {note}" for note in method.notes)] if method.notes else []
    prefix, result, code = _returned(document, operation, method)
    return "\n".join(
        [
            f"    {prefix}def {operation.name}({method.signature}) -> {result}:",
            docstring(text, "        ", notes),
            f"        {code}",
            "",
        ]
    )


def _returned(document: Document, operation: Operation, method: _Method) -> tuple[str, str, str]:
    """Whether it is awaited, its result, and its only line."""
    path = _path(operation.path)
    query = f", query={{{', '.join(method.query)}}}" if method.query else ""
    response = operation.response
    if response is None:
        return "", "AsyncDownload", f"return AsyncDownload(self._transport, {path}{query})"
    listed = page_item(document.resolve(response))
    if listed is not None:
        item = f"models.{model_name(listed)}"
        return (
            "",
            f"AsyncPager[{item}]",
            f"return AsyncPager(self._transport, {path}, {item}{query})",
        )
    body = f", json={{{', '.join(method.body)}}}" if operation.body else ""
    key = ", key=idempotency_key or new_key()" if operation.is_keyed else ""
    name = f"models.{model_name(reference(response))}"
    verb = operation.method.upper()
    call = f"self._transport.request({verb!r}, {path}, {name}{query}{body}{key})"
    return "async ", name, f"return await {call}"


def _path(template: str) -> str:
    if "{" not in template:
        return repr(template)
    return "f" + repr(re.sub(r"\{(\w+)\}", r"{segment(\1)}", template))
