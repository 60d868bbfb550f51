"""What was made elsewhere, as an edit's request has it in place of a method and a behaviour."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from models_store.schemas.base import DocumentedModel
from models_store.schemas.catalogue import HubSource

ImportKind = Literal["native", "peft", "control_vector", "steering_vectors", "difference"]


class ModelSource(DocumentedModel):
    """Another registered model of the same shape, such as a fine-tuned one: the edit is what it
    differs by from the base model, up to a rank."""

    type: Literal["base_model"] = "base_model"
    """Always `base_model`."""
    id: Annotated[str, Field(max_length=200)]
    """The other model, by its id."""
    rank: Annotated[int, Field(ge=1, le=256)] = 16
    """Of the change of each matrix."""


class SourceFile(DocumentedModel):
    """One file, as it came."""

    name: str
    """Name of the file."""
    sha256: str
    """SHA-256 of the content."""
    bytes: int
    """Size."""


class ImportSource(DocumentedModel):
    """Where an imported edit comes from: files that came with the request, or a repository."""

    kind: ImportKind | None = None
    """None until the files of the repository were looked at."""
    files: tuple[SourceFile, ...] = ()
    """As they came."""
    hub: HubSource | None = None
    """The repository; null: none."""
    model: ModelSource | None = None
    """The other model; null: none."""
    model_fingerprint: str | None = None
    """Checksum of the other model's weights."""


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
    """What the files turned out to be."""
    files: tuple[SourceFile, ...]
    """That were read."""
    modules: tuple[str, ...]
    """That are changed, by their logical names, such as `self_attn.q_proj`."""
    layers: tuple[int, ...]
    """That are changed."""
    rank: int
    """The most terms of one matrix."""
    terms: int
    """Number of rank-one terms."""
    made_by: str | None = None
    """The method that a delta names."""
    made_for: str | None = None
    """The base model that an adapter names."""
    approximation: Approximation | None = None
    """Of vectors, since a constant shift is no change of weights, and of a difference of models."""
    left: dict[str, float] | None = None
    """Of a difference: what the edit lacks of the change of each tensor, as a share of its
    Frobenius norm; 1 of what no edit can reach."""
    proof: dict[str, JsonValue] | None = None
    """How closely the edit, as it is served, agrees with the files as their own library runs them,
    and that it differs from the base model; as `proof` of an export."""
