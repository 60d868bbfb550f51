"""What all bodies of requests, and all of responses, have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class RequestBody(BaseModel):
    """A JSON object that a client sends: no other fields than those named."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class View(BaseModel):
    """Part of a response. Attribute docstrings are the descriptions of its fields."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)
