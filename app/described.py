"""The application's own description (OpenAPI), with errors as they are answered."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

PROBLEM_TYPE = "application/problem+json"


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    pointer: str
    """JSON pointer into the body."""
    code: str
    detail: str


class Problem(BaseModel):
    """An error (RFC 9457). Under `/v1/chat`, `/v1/completions` and `/v1/models` errors have the
    shape of OpenAI's API instead."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    errors: list[FieldProblem]


class DescribedApp(FastAPI):
    """A FastAPI whose every operation says how errors look."""

    def __init__(self, **options: Any) -> None:
        errors: dict[int | str, dict[str, Any]] = {
            "default": {"model": Problem, "description": "An error; `/docs/errors` has all"}
        }
        super().__init__(responses=errors, **options)

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            for operations in super().openapi()["paths"].values():
                for operation in operations.values():
                    _move(operation["responses"]["default"]["content"])
        assert self.openapi_schema is not None
        return self.openapi_schema


def _move(content: dict[str, Any]) -> None:
    """Errors have one media type, whatever the answer has."""
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    content.clear()
    content[PROBLEM_TYPE] = {"schema": schema}
