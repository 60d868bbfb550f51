"""The application's own description (OpenAPI), with every error that a call can return.

A response with a status that is not described is a mistake that the fuzzing tests find, so there
is no `default` that would cover all of them.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

from app.domain.bodies import View
from app.http.reference import EXAMPLES, PARAMETERS, TAGS

PROBLEM_TYPE = "application/problem+json"
OPENAI_PATHS = ("/v1/chat", "/v1/completions", "/v1/models", "/v1/files", "/v1/fine_tuning")
"""Where errors have the shape that OpenAI's clients read."""
_REFERENCE = "#/components/schemas/{model}"
_BINARY = {"type": "string", "format": "binary"}
_BODY_STATUSES = (413, 415, 422)
_ANY_STATUSES = (400, 429, 500, 503)
"""An invalid query; a limit; a damaged record; a part that is unavailable."""


class FieldProblem(View):
    """What is wrong with one field."""

    pointer: str
    """JSON pointer into the body."""
    code: str
    """Stable."""
    detail: str
    """For people: the field, and what is wrong."""


class Problem(View):
    """An error (RFC 9457). Under `/v1/chat`, `/v1/completions`, `/v1/models`, `/v1/files` and
    `/v1/fine_tuning` errors have the format of OpenAI's API instead."""

    type: str
    """Where the code is explained."""
    title: str
    """The kind of error, in words."""
    status: int
    """That of HTTP."""
    detail: str
    """For people: what is wrong, and what to do."""
    instance: str
    """Path of the request."""
    code: str
    """Stable, for programs."""
    request_id: str
    """The `X-Request-Id`, by which the server's log has it."""
    errors: list[FieldProblem]
    """By field of the body, a hundred at most."""


class OpenAIErrorDetail(View):
    message: str
    """For people."""
    type: str
    """The kind of error, as OpenAI names it."""
    param: str | None
    """The field that is wrong, such as `messages[0].content`."""
    code: str
    """Stable."""


class OpenAIError(View):
    """An error in the format of OpenAI's API."""

    error: OpenAIErrorDetail
    """What is wrong."""


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
            _name_pages_(document)
            document["tags"] = [{"name": name, "description": said} for name, said in TAGS.items()]
            shared = document["components"].setdefault("responses", {})
            for path, operations in document["paths"].items():
                for method, operation in operations.items():
                    if not self._with_keys:
                        operation.pop("security", None)
                    _describe_files(operation["responses"])
                    _explain_(operation)
                    for status in _error_statuses(path, method, operation):
                        _describe(operation["responses"], shared, path, status)
        assert self.openapi_schema is not None
        return self.openapi_schema


def _describe_files(responses: dict[str, Any]) -> None:
    """Say of bodies that are no JSON what generators of clients have to know: text, or bytes."""
    for response in responses.values():
        for kind, content in response.get("content", {}).items():
            if kind != "application/json" and "schema" not in content:
                is_text = kind.startswith("text/") or kind == "application/jsonl"
                content["schema"] = {"type": "string"} if is_text else _BINARY


def _name_pages_(document: dict[str, Any]) -> None:
    """Call each page of a list by the name of its model, not by how the model is written."""
    schemas = document["components"]["schemas"]
    names = {name: schema["title"] for name, schema in schemas.items() if name.startswith("Page_")}
    for old, new in names.items():
        schemas[new] = schemas.pop(old)
    for operations in document["paths"].values():
        for operation in operations.values():
            for content in operation["responses"].get("200", {}).get("content", {}).values():
                name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
                if name in names:
                    content["schema"]["$ref"] = _REFERENCE.format(model=names[name])


def _explain_(operation: dict[str, Any]) -> None:
    """Add what parameters mean, and an example of the body."""
    for parameter in operation.get("parameters", ()):
        if "description" not in parameter and parameter["name"] in PARAMETERS:
            parameter["description"] = PARAMETERS[parameter["name"]]
    bodies = operation.get("requestBody", {}).get("content", {})
    if "application/json" in bodies and operation["operationId"] in EXAMPLES:
        bodies["application/json"]["example"] = EXAMPLES[operation["operationId"]]


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
    statuses |= {int(status) for status in responses if status >= "400"}
    if path.startswith(OPENAI_PATHS):
        statuses.discard(422)  # 400 there, as OpenAI answers
    return sorted(statuses)


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
