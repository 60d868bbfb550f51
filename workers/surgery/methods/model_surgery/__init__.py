"""The method `model_surgery` (arXiv 2407.08770): its settings, and what it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from models_store.schemas.method_base import DocsRow, Factor, FixedMethod, MaxTokens, Share, Sizes
from models_store.weights.architectures import GATE, SHARED_GATE


class ModelSurgery(FixedMethod):
    """The paper's method (arXiv 2407.08770) with the paper's settings as defaults.

    The probe's direction is added to the gate rows that point most away from it:
    `row += alpha · direction`.
    """

    place: ClassVar = 1
    docs: ClassVar = DocsRow("some gate rows", "forward")
    fit: ClassVar = "workers.surgery.methods.model_surgery.fit:fit"
    modules: ClassVar = (GATE, SHARED_GATE)
    carrier: ClassVar = "direction"
    calibrated: ClassVar = False

    type: Literal["model_surgery"] = "model_surgery"
    alpha: Factor | None = None
    """Factor of the raw direction; the paper's 1 when neither factor is given."""
    relative_alpha: Factor | None = None
    """`alpha · ‖direction‖ / mean norm of all gate rows`: comparable between models."""
    fraction: Share = 0.0465
    """Share of all gate rows that are edited."""
    epochs: Annotated[int, Field(ge=1, le=1000)] = 9
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-4
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 16
    train_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.9
    max_tokens: MaxTokens = 100
    """Texts are cut at this many tokens."""

    @model_validator(mode="after")
    def _not_both_factors(self) -> ModelSurgery:
        if self.alpha is not None and self.relative_alpha is not None:
            raise ValueError("give alpha or relative_alpha, not both")
        return self

    @property
    def probe(self) -> Mapping[str, Any]:
        return self.model_dump(include={"epochs", "learning_rate", "batch_size", "train_fraction"})

    def delta_bytes(self, sizes: Sizes) -> int:
        rows = self.fraction * sum(sizes.gates)
        # All terms share one direction, which is stored once.
        return sizes.delta_bytes(sizes.hidden, rows, len(sizes.gates))
