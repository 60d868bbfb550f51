"""The bases of all schemas."""

from __future__ import annotations

import secrets

from pydantic import BaseModel, ConfigDict, Field


class FrozenModel(BaseModel):
    """A model that refuses changes and unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DocumentedModel(FrozenModel):
    """Its attribute docstrings are the descriptions of the fields in the OpenAPI document."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Record(FrozenModel):
    """A JSON object in the store; frozen, since what is stored never changes."""

    model_config = ConfigDict(ser_json_inf_nan="constants")

    schema_version: int = 1
    """The major version; see `models_store.objects.versions`."""
    writer: str = Field(default_factory=lambda: secrets.token_hex(8))
    """Random: shows after a refused create whether the stored record is this one."""
