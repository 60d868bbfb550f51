"""The application's own description (OpenAPI), with every error that a call can return.

A response with a status that is not described is a mistake that the fuzzing tests find, so there
is no `default` that would cover all of them.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

PROBLEM_TYPE = "application/problem+json"
OPENAI_PATHS = ("/v1/chat", "/v1/completions", "/v1/models", "/v1/files", "/v1/fine_tuning")
"""Where errors have the shape that OpenAI's clients read."""
_REFERENCE = "#/components/schemas/{model}"
_BODY_STATUSES = (413, 415, 422)
_ANY_STATUSES = (400, 429, 500, 503)
"""An invalid query; a limit; a damaged record; a part that is unavailable."""


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    pointer: str
    """JSON pointer into the body."""
    code: str
    detail: str


class Problem(BaseModel):
    """An error (RFC 9457). Under `/v1/chat`, `/v1/completions`, `/v1/models`, `/v1/files` and
    `/v1/fine_tuning` errors have the format of OpenAI's API instead."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    errors: list[FieldProblem]


class OpenAIErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str


class OpenAIError(BaseModel):
    """An error in the format of OpenAI's API."""

    error: OpenAIErrorDetail


class DocumentedApp(FastAPI):
    """A FastAPI whose every operation describes the errors it returns."""

    def __init__(self, *, with_keys: bool, **options: Any) -> None:
        """Args:
        with_keys: whether calls need an API key; else the description has none.
        """
        super().__init__(**options)
        self._with_keys = with_keys

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            schemas = document["components"]["schemas"]
            # Those of the framework's own errors, which are answered differently here.
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            for model in (FieldProblem, Problem, OpenAIErrorDetail, OpenAIError):
                schema = model.model_json_schema(ref_template=_REFERENCE)
                schema.pop("$defs", None)
                schemas[model.__name__] = schema
            shared = document["components"].setdefault("responses", {})
            for path, operations in document["paths"].items():
                for method, operation in operations.items():
                    if not self._with_keys:
                        operation.pop("security", None)
                    for status in _error_statuses(path, method, operation):
                        _describe(operation["responses"], shared, path, status)
        assert self.openapi_schema is not None
        return self.openapi_schema


def _error_statuses(path: str, method: str, operation: dict[str, Any]) -> list[int]:
    """The errors that follow from what an operation takes; routes add those that don't."""
    statuses = {*_ANY_STATUSES}
    if operation.get("security"):
        statuses |= {401, 403}
    if "requestBody" in operation:
        statuses |= {*_BODY_STATUSES}
    if "{" in path or path.startswith(OPENAI_PATHS):
        statuses |= {404, 409}
    if method != "get":
        statuses |= {404, 409, 422}
    # The framework describes an error of its own for every parameter; wrong ones are answered 400.
    responses = operation["responses"]
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]
    return sorted(statuses | {int(status) for status in responses if status >= "400"})


def _describe(responses: dict[str, Any], shared: dict[str, Any], path: str, status: int) -> None:
    """Refer to the description of a status that operations share, unless the route has its own."""
    if responses.get(str(status), {}).get("content"):
        return
    openai = path.startswith(OPENAI_PATHS)
    name = f"{'OpenAI' if openai else ''}{HTTPStatus(status).name.title().replace('_', '')}"
    model = OpenAIError if openai else Problem
    reference = {"schema": {"$ref": _REFERENCE.format(model=model.__name__)}}
    shared[name] = {
        "description": f"{HTTPStatus(status).phrase}; `/docs/errors` has all",
        "content": {"application/json" if openai else PROBLEM_TYPE: reference},
    }
    responses[str(status)] = {"$ref": f"#/components/responses/{name}"}
