"""What was made elsewhere, as an edit's request has it in place of a method and a behaviour."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, JsonValue

from models_store.schemas.base import DocumentedModel
from models_store.schemas.catalogue import HubSource
from models_store.schemas.method_base import DocsRow, FixedMethod

ImportKind = Literal["native", "peft"]


class Imported(FixedMethod):
    """In place of the method of an edit that was made elsewhere."""

    docs: ClassVar = DocsRow("", "")
    modules: ClassVar = ()
    carrier: ClassVar = "coefficients"

    type: Literal["imported"] = "imported"


class SourceFile(DocumentedModel):
    """One file, as it came."""

    name: str
    sha256: str
    bytes: int


class ImportSource(DocumentedModel):
    """Where an imported edit comes from: files that came with the request, or a repository."""

    kind: ImportKind | None = None
    """None until the files of the repository were looked at."""
    files: tuple[SourceFile, ...] = ()
    hub: HubSource | None = None


class ImportFacts(DocumentedModel):
    """What reading the files has shown; `imported` in the `outcome_data` of such an edit."""

    kind: ImportKind
    files: tuple[SourceFile, ...]
    modules: tuple[str, ...]
    """That are changed, by their logical names, such as `self_attn.q_proj`."""
    layers: tuple[int, ...]
    rank: int
    """The most terms of one matrix."""
    terms: int
    made_by: str | None = None
    """The method that a delta names."""
    made_for: str | None = None
    """The base model that an adapter names."""
    proof: dict[str, JsonValue] = Field(default_factory=dict)
    """How closely the edit, as it is served, agrees with the files as their own library runs them,
    and that it differs from the base model; as `proof` of an export."""
