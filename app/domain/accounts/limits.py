"""How much a tenant may use: the operator's limits, and others for single tenants.

Those are in a TOML file (`SCALPEL_TENANTS`), a `[[tenant]]` table each; what a table leaves out is
as for everybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter

from models_store.errors import FieldError
from models_store.ids import TENANT_PATTERN
from models_store.operator.toml import read_tables, refuse
from models_store.schemas.base import DocumentedModel
from models_store.settings import Settings

_Rate = Annotated[float, Field(gt=0, le=1e6)]
_Number = Annotated[int, Field(ge=1, le=2**53)]


class _Part(DocumentedModel):
    model_config = ConfigDict(allow_inf_nan=False)


class TenantLimits(_Part):
    """What one tenant may use."""

    requests_per_second: _Rate
    """Over a longer time."""
    request_burst: _Number
    """Requests at once, after a pause."""
    tokens_per_minute: _Number
    """Generated ones: of completions, comparisons and drafts together."""
    queued_edits: _Number
    """Edits and exports that have not ended."""
    running_edits: _Number
    """Of these, those that are worked on at the same time."""
    stored_bytes: _Number
    """Of edits, exports, behaviours, and versions of aliases and webhooks in the store."""


class _Row(_Part):
    """A `[[tenant]]` table."""

    name: Annotated[str, Field(pattern=f"^{TENANT_PATTERN.pattern}$")]
    requests_per_second: _Rate | None = None
    request_burst: _Number | None = None
    tokens_per_minute: _Number | None = None
    queued_edits: _Number | None = None
    running_edits: _Number | None = None
    stored_bytes: _Number | None = None


@dataclass(frozen=True)
class LimitTable:
    """The limits of every tenant."""

    default: TenantLimits
    tenants: Mapping[str, TenantLimits] = field(default_factory=dict)

    def of(self, tenant: str) -> TenantLimits:
        return self.tenants.get(tenant, self.default)


def read_limits(settings: Settings) -> LimitTable:
    """The limits in force.

    Raises:
        InvalidRequest: the operator's file cannot be read, or a field of it is wrong.
    """
    default = TenantLimits(
        **{name: getattr(settings, f"limit_{name}") for name in TenantLimits.model_fields}
    )
    if settings.tenants is None:
        return LimitTable(default)
    return LimitTable(default, _tenants(settings.tenants, default))


def _tenants(path: Path, default: TenantLimits) -> dict[str, TenantLimits]:
    limits: dict[str, TenantLimits] = {}
    problems = []
    rows = read_tables(path, "tenant", TypeAdapter(_Row), setting="SCALPEL_TENANTS")
    for index, row in enumerate(rows):
        if row.name in limits:
            detail = f"{row.name} has a table already"
            problems.append(FieldError(f"/tenant/{index}/name", "duplicate", detail))
        given = row.model_dump(exclude={"name"}, exclude_none=True)
        limits[row.name] = default.model_copy(update=given)
    refuse(path, problems)
    return limits
