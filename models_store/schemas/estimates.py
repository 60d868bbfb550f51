"""What is known of an edit before it is made, and of texts that were drafted."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from models_store.schemas.behaviors import Behavior, BehaviorRef
from models_store.schemas.catalogue import BaseModelSource
from models_store.schemas.items import Item
from models_store.schemas.methods import Effort, Method
from models_store.schemas.records import Variant
from models_store.schemas.report import Remark, SplitCounts


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class Distinction(_Part):
    """How separable the two sides of a behaviour are, on held-out texts. Each figure is an area
    under the ROC curve: 0.5 is chance, 1 is perfect."""

    probe_auc: float | None
    """By a linear classifier on the base model's hidden states; null without a base model."""
    words_auc: float
    """By the words and runs of letters of the text."""
    length_auc: float
    """By the length in words alone."""
    heldout_texts: int
    """Number of texts."""
    note: str | None


class EstimatedSeconds(_Part):
    """On the generator's machine when idle, without standard suites."""

    fit: float
    search: float
    """0 for a method that makes one edit."""
    test: float
    total: float


class Estimate(_Part):
    """Time and memory of an edit, and how separable its texts are."""

    object: Literal["estimate"] = "estimate"
    base_model: str
    behavior: BehaviorRef
    method: Method
    effort: Effort
    splits: SplitCounts
    separability: Distinction
    duplicates: int
    """Texts that nearly repeat another one."""
    warnings: tuple[Remark, ...]
    seconds: EstimatedSeconds
    memory_bytes: int
    """Peak resident memory of the editor's process."""
    delta_bytes: int
    texts_read: int
    """Number of texts read for the probe, drawn at random by the seed."""


class EstimateRequest(_Part):
    """`POST /internal/estimate`: answered with an `Estimate`."""

    base_model: str
    base_fingerprint: str
    source: BaseModelSource
    on_top_of: Variant | None
    behavior: Behavior
    ref: BehaviorRef
    in_place: bool
    """The request has the texts; else it names them, and remarks point to the name."""
    preserve: tuple[Item, ...]
    method: Method
    effort: Effort
    seed: int


class ProbeRequest(_Part):
    """`POST /internal/probe`: how undesired hidden states say that texts are, by cross-validation.

    Texts of one `pair_id` are judged by a probe that was fitted on others. Answered with
    `ProbeScores`.
    """

    base_model: str
    base_fingerprint: str
    source: BaseModelSource
    chat: bool
    undesired: Annotated[tuple[Item, ...], Field(min_length=2)]
    desired: Annotated[tuple[Item, ...], Field(min_length=2)]
    seed: int


class ProbeScores(_Part):
    """Logits of being undesired, in the order of the texts."""

    undesired: tuple[float, ...]
    desired: tuple[float, ...]
