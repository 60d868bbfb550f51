"""Estimates of edits before they are made, and probe scores of drafted texts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from models_store.schemas.base import DocumentedModel
from models_store.schemas.behaviors import Behavior, BehaviorRef
from models_store.schemas.catalogue import BaseModelSource
from models_store.schemas.items import Item
from models_store.schemas.methods import Effort, Method
from models_store.schemas.records import Variant
from models_store.schemas.report import Remark, SplitCounts


class _Part(DocumentedModel):
    model_config = ConfigDict(allow_inf_nan=False)


class Distinction(_Part):
    """How separable the two sides of a behaviour are, on held-out texts. Each figure is an area
    under the ROC curve: 0.5 is chance, 1 is perfect."""

    probe_auc: float | None
    """By a linear classifier on the base model's hidden states; null without a base model."""
    words_auc: float
    """By the words and character n-grams of the text."""
    length_auc: float
    """By the length in words alone."""
    heldout_texts: int
    """Number of texts."""
    note: str | None
    """What to make of it; null: nothing."""


class EstimatedSeconds(_Part):
    """On the generator's machine when idle, without standard suites."""

    fit: float
    """To read the texts and fit."""
    search: float
    """0 for a method that makes one edit. Up to 4 times as much where less than 20 % of the base's
    text shows the behaviour: each prompt is then continued more often."""
    test: float
    """To measure the edit and its controls."""
    total: float
    """All of it."""


class Estimate(_Part):
    """Time and memory of an edit, and how separable its texts are."""

    object: Literal["estimate"] = "estimate"
    """What kind of thing this is: always the same word."""
    base_model: str
    """Id of the base model."""
    behavior: BehaviorRef
    """What is to change."""
    method: Method
    """With all defaults filled in."""
    effort: Effort
    """How much is tried and measured."""
    splits: SplitCounts
    """Without texts that the edit makes."""
    separability: Distinction | None
    """Null for a behaviour that names a scorer in place of texts: the edit makes them."""
    duplicates: int
    """Texts that are near-duplicates of another one."""
    smallest_effect: float = 1.0
    """Change of the rate of undesired text that the test prompts would show in 4 of 5 repetitions,
    about; 1 if they are too few for any."""
    warnings: tuple[Remark, ...]
    """What could be better, and what can be foreseen of its harm."""
    seconds: EstimatedSeconds
    """What it would take."""
    memory_bytes: int
    """Peak resident memory of the editor's process."""
    delta_bytes: int
    """Size of the edit's file, about."""
    texts_read: int
    """Number of texts read for the probe, drawn at random by the seed."""


class PastCost(_Part):
    """What an earlier edit with the same base model, method and effort took, by its receipt."""

    stages: dict[str, float]
    """Seconds by stage, without those of standard suites and of a second look."""
    texts: int
    """That were read for the fit."""
    generated: int
    """Tokens of the scored texts, of each model."""
    device: str
    dtype: str
    cpu_capability: str | None


class EstimateRequest(_Part):
    """`POST /internal/estimate`; the response is an `Estimate`."""

    base_model: str
    base_fingerprint: str
    source: BaseModelSource
    on_top_of: Variant | None
    behavior: Behavior
    ref: BehaviorRef
    in_place: bool
    """The texts come with the request; else it names a behaviour, and remarks point to the name."""
    preserve: tuple[Item, ...]
    method: Method
    effort: Effort
    seed: int
    past: tuple[PastCost, ...] = ()


class ProbeRequest(_Part):
    """`POST /internal/probe`: cross-validated probe scores of texts.

    Texts of one `pair_id` are scored by a probe that was fitted on other pairs. The response is
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
