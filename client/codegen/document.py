"""The description of the API as this program reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

OPENAI_PATHS = ("/v1/chat", "/v1/completions", "/v1/files", "/v1/fine_tuning")
"""Those that the `openai` package calls."""
JSON = "application/json"
_REFERENCE = "#/components/schemas/"
_VERBS = {"list": "list", "read": "retrieve", "create": "create", "delete": "delete"}
_NAMES = {
    "change_webhook": "webhooks.update",
    "check_server": "canaries.check",
    "compare": "edits.compare",
    "healthz": "health.live",
    "list_alias_versions": "aliases.history",
    "list_deliveries": "webhooks.deliveries",
    "read_archive": "exports.archive",
    "read_canary": "canaries.download",
    "read_delta": "edits.delta",
    "read_events": "edits.list_events",
    "read_file": "exports.file",
    "read_report": "receipts.retrieve",
    "read_texts": "edits.texts",
    "readyz": "health.ready",
    "retry_delivery": "webhooks.retry_delivery",
    "rotate_secret": "webhooks.rotate_secret",
    "version": "health.version",
}
"""By operation: what it is called here, where that does not follow from its id."""

Schema = dict[str, Any]


@dataclass(frozen=True)
class Operation:
    """One call of the API."""

    id: str
    method: str
    path: str
    described: Mapping[str, Any]

    @property
    def resource(self) -> str:
        return self._name[0]

    @property
    def name(self) -> str:
        return self._name[1]

    @property
    def _name(self) -> tuple[str, str]:
        """`edits`, `create`: from the path and the verb that the id begins with."""
        if self.id in _NAMES:
            resource, _, name = _NAMES[self.id].partition(".")
            return resource, name
        resource = self.path.split("/")[2]
        verb, _, rest = self.id.partition("_")
        if rest in (resource, resource.removesuffix("s"), resource.removesuffix("es")):
            return resource, _VERBS.get(verb, verb)
        return resource, self.id.removesuffix("_" + resource.removesuffix("s"))

    def parameters(self, where: str) -> list[Mapping[str, Any]]:
        return [one for one in self.described.get("parameters", ()) if one["in"] == where]

    @property
    def is_keyed(self) -> bool:
        return any(one["name"] == "Idempotency-Key" for one in self.parameters("header"))

    @property
    def body(self) -> Schema | None:
        content = self.described.get("requestBody", {}).get("content", {})
        found: Schema | None = content.get(JSON, {}).get("schema")
        return found

    @property
    def success(self) -> Mapping[str, Any]:
        """Content types of a success, with their schemas."""
        responses = self.described["responses"]
        status = min(status for status in responses if status[0] == "2")
        content: Mapping[str, Any] = responses[status].get("content", {})
        return content

    @property
    def response(self) -> Schema | None:
        """The schema of the JSON that it answers with; None of files and streams."""
        found: Schema | None = self.success.get(JSON, {}).get("schema")
        return found

    @property
    def is_stream(self) -> bool:
        """Of events alone, which are written by hand."""
        return set(self.success) == {"text/event-stream"}


class Document:
    """`openapi.json`, without what the `openai` package calls."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.schemas: dict[str, Schema] = document["components"]["schemas"]
        self.operations = [
            Operation(described["operationId"], method, path, described)
            for path, methods in document["paths"].items()
            for method, described in methods.items()
            if not path.startswith(OPENAI_PATHS)
        ]

    def resolve(self, schema: Schema) -> Schema:
        return self.schemas[reference(schema)] if "$ref" in schema else schema

    def reachable(self, schemas: Iterator[Schema | None]) -> set[str]:
        """The names of the schemas that these refer to, directly or through others."""
        found: set[str] = set()
        waiting = [name for schema in schemas if schema for name in references(schema)]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting.extend(references(self.schemas[name]))
        return found

    def in_requests(self) -> set[str]:
        return self.reachable(one.body for one in self.operations)

    def in_responses(self) -> set[str]:
        return self.reachable(one.response for one in self.operations)


def page_item(schema: Schema) -> str | None:
    """The name of the schema of a page's items; None of what is no page of a list."""
    fields = schema.get("properties", {})
    if fields.get("object", {}).get("const") != "list" or not {"data", "has_more"} <= set(fields):
        return None
    return reference(fields["data"]["items"])


def reference(schema: Schema) -> str:
    name: str = schema["$ref"]
    return name.removeprefix(_REFERENCE)


def references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield reference(schema)
        for name, inner in schema.items():
            if name not in ("default", "discriminator", "examples"):
                yield from references(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from references(inner)
