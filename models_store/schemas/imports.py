"""What was made elsewhere, as an edit's request has it in place of a method and a behaviour."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import JsonValue

from models_store.schemas.base import DocumentedModel
from models_store.schemas.catalogue import HubSource
from models_store.schemas.method_base import DocsRow, FixedMethod

ImportKind = Literal["native", "peft", "control_vector", "steering_vectors"]


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


class Approximation(DocumentedModel):
    """How close an edit comes to what it was made of, where it cannot do the same."""

    kl: float
    """KL(base ‖ what was imported) in nats a token, on neutral text."""
    kl_missed: float
    """KL(what was imported ‖ edit), likewise: 0 would be the same."""
    texts: int
    """That both were measured on; nothing was fitted on them."""


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
    approximation: Approximation | None = None
    """Of vectors: a constant shift is no change of weights, so the edit is the nearest one."""
    proof: dict[str, JsonValue] | None = None
    """How closely the edit, as it is served, agrees with the files as their own library runs them,
    and that it differs from the base model; as `proof` of an export."""
