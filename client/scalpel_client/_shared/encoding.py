"""Values as requests carry them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from scalpel_client.errors import APIResponseValidationError, SecretLostError

M = TypeVar("M", bound=BaseModel)


def new_key() -> str:
    """An `Idempotency-Key`."""
    return uuid.uuid4().hex


def segment(value: str) -> str:
    """A value as one part of a path.

    Raises:
        ValueError: it is empty, or a path of its own.
    """
    if value in ("", ".", ".."):
        raise ValueError(f"an id or a name is expected, not {value!r}")
    return quote(value, safe=":@~,")


def metadata_query(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """The filter of lists by metadata."""
    return {f"metadata[{name}]": value for name, value in (metadata or {}).items()}


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def json_body(fields: Mapping[str, Any]) -> bytes:
    """The fields that are given; models without what nobody set."""
    return json.dumps(given(fields), default=_plain, allow_nan=False).encode()


def decoded(model: type[M], response: httpx.Response) -> M:
    """The object of a response.

    Raises:
        APIResponseValidationError: it is not such an object.
        SecretLostError: its secret was in a response that did not arrive.
    """
    try:
        found = model.model_validate_json(response.content)
    except ValidationError as error:
        raise APIResponseValidationError(response, error) from None
    fields = dict(found)
    if "Idempotent-Replayed" in response.headers and fields.get("secret", "") is None:
        raise SecretLostError(fields["id"])
    return found


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "__iter__"):
        return list(value)
    raise TypeError(f"{type(value).__name__} is no JSON")
