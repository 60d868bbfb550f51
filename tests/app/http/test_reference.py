"""The description of the API says what everything in it means."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from app.cli.openapi import openapi_document
from app.domain.edits.requests import ImportBody
from app.http.reference import EXAMPLES, TAGS
from app.routes import ROUTERS
from models_store.schemas.behaviors import Behavior, checked

DOCUMENT: dict[str, Any] = json.loads(openapi_document())
OPERATIONS = {
    operation["operationId"]: operation
    for operations in DOCUMENT["paths"].values()
    for operation in operations.values()
}
# Two calls read their bodies themselves.
BODIES: dict[str, Any] = {"create_behavior": Behavior, "create_import": ImportBody} | {
    route.name: route.body_field.field_info.annotation
    for router in ROUTERS
    for route in router.routes
    if isinstance(route, APIRoute) and route.body_field is not None
}


def properties(where: str, schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property of a schema and of those within it, by its place."""
    if not isinstance(schema, dict):
        return
    for name, inner in schema.get("properties", {}).items():
        yield f"{where}.{name}", inner
        yield from properties(f"{where}.{name}", inner)
    for part in ("items", "additionalProperties"):
        yield from properties(where, schema.get(part))
    for part in ("anyOf", "oneOf", "allOf"):
        for inner in schema.get(part, ()):
            yield from properties(where, inner)


def test_every_property_is_described() -> None:
    found = [
        one
        for name, schema in DOCUMENT["components"]["schemas"].items()
        for one in properties(name, schema)
    ]
    assert len(found) > 900
    assert [place for place, schema in found if not schema.get("description")] == []


def test_every_operation_is_described_and_each_of_its_parameters() -> None:
    assert [id for id, one in OPERATIONS.items() if not one.get("description")] == []
    assert [
        (id, parameter["name"])
        for id, one in OPERATIONS.items()
        for parameter in one.get("parameters", ())
        if not parameter.get("description")
    ] == []


def test_every_tag_is_described() -> None:
    assert {tag for one in OPERATIONS.values() for tag in one["tags"]} == TAGS.keys()
    assert [tag["name"] for tag in DOCUMENT["tags"]] == list(TAGS)


def test_schemas_have_names_for_people() -> None:
    names = DOCUMENT["components"]["schemas"].keys()
    assert [name for name in names if "_" in name] == []
    assert "EditPage" in names
    references = {part.split('"')[0] for part in openapi_document().split("/schemas/")[1:]}
    assert references <= names


def test_every_body_has_an_example() -> None:
    bodies = {id: one.get("requestBody", {}).get("content", {}) for id, one in OPERATIONS.items()}
    assert {id for id, kinds in bodies.items() if "application/json" in kinds} == EXAMPLES.keys()
    for id in EXAMPLES:
        content = OPERATIONS[id]["requestBody"]["content"]["application/json"]
        assert content["example"] == EXAMPLES[id]


@pytest.mark.parametrize("id", EXAMPLES)
def test_an_example_is_valid(id: str) -> None:
    body = TypeAdapter(BODIES[id]).validate_json(json.dumps(EXAMPLES[id]), strict=True)
    if isinstance(body, Behavior):
        checked(body, pointer="")
