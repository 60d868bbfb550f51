"""What all bodies of requests have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class RequestBody(BaseModel):
    """A JSON object that a client sends: no other fields than those named."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
