"""What every record in the store has."""

from __future__ import annotations

import secrets

from pydantic import BaseModel, ConfigDict, Field


class Record(BaseModel):
    """A JSON object in the store; frozen, since what is stored never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    schema_version: int = 1
    writer: str = Field(default_factory=lambda: secrets.token_hex(8))
    """Random: tells one's own write from another's when a create is refused."""
