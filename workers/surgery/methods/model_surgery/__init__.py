"""The method `model_surgery` (arXiv 2407.08770): its settings, and what it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from models_store.schemas.measurements import ProbeKind
from models_store.schemas.method_base import DocsRow, Factor, FixedMethod, MaxTokens, Share, Sizes
from models_store.weights.architectures import GATE, SHARED_GATE

_TRAINING: Mapping[str, float] = {"epochs": 9, "learning_rate": 1e-4, "batch_size": 16}
"""The paper's, of its probe alone."""


class ModelSurgery(FixedMethod):
    """The paper's method (arXiv 2407.08770), with its own probe or one that has converged.

    The probe's direction is added to the gate rows that point most away from it:
    `row += alpha · direction`.
    """

    place: ClassVar = 1
    docs: ClassVar = DocsRow("some gate rows", "forward")
    fit: ClassVar = "workers.surgery.methods.model_surgery.fit:fit"
    modules: ClassVar = (GATE, SHARED_GATE)
    carrier: ClassVar = "direction"

    type: Literal["model_surgery"] = "model_surgery"
    """Name of the method."""
    probe: ProbeKind = "converged"
    """`converged`: trained from zero until it is at its optimum. `paper`: trained as in the paper,
    for a few epochs from a random start, which a few hundred texts hardly turn; also meant by a
    request that gives `epochs`, `learning_rate` or `batch_size`."""
    alpha: Factor | None = None
    """Factor of the raw direction. Where neither factor is given it is calibrated to
    `limits.max_kl`, and with the probe `paper` it is the paper's 1."""
    relative_alpha: Factor | None = None
    """`alpha · ‖direction‖ / mean norm of all gate rows`: comparable between models."""
    fraction: Share = 0.0465
    """Share of all gate rows that are edited."""
    weight_decay: Annotated[float, Field(ge=0, le=1e6)] = 0.1
    """Of the probe `converged`: λ in mean cross entropy + λ/2 · σ² · ‖W‖², where σ² is the mean
    variance of a feature; positive, or nothing bounds W. The larger it is, the more the direction
    is that of the difference of means. 0 with the probe `paper`."""
    epochs: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Of the probe `paper`, like the next two; by default the paper's 9."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    """By default the paper's 0.0001."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] | None = None
    """By default the paper's 16."""
    train_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Share of the texts that the probe is trained on; the rest tests it."""
    max_tokens: MaxTokens = 100
    """Texts are cut at this many tokens."""

    @model_validator(mode="before")
    @classmethod
    def _say_which_probe(cls, given: Any) -> Any:
        """Settings of the paper's training, as in records from before there was another probe,
        mean the paper's."""
        if not isinstance(given, Mapping):
            return given
        training = {name: given[name] for name in _TRAINING if given.get(name) is not None}
        probe = given.get("probe", "paper" if training else "converged")
        if probe == "paper":
            given = {"weight_decay": 0.0, **given, **_TRAINING, **training}
        return {**given, "probe": probe}

    @field_validator(*_TRAINING, "weight_decay")
    @classmethod
    def _of_this_probe(cls, value: float | None, info: ValidationInfo) -> float | None:
        probe = info.data.get("probe")
        if info.field_name == "weight_decay":
            if probe == "paper" and value:
                raise ValueError("the probe `paper` has none; leave it out")
            if probe == "converged" and not value:
                raise ValueError("must be positive: without it the probe may have no optimum")
        elif probe == "converged" and value is not None:
            raise ValueError('is of the probe `paper`: give "probe": "paper", or leave it out')
        return value

    @model_validator(mode="after")
    def _not_both_factors(self) -> ModelSurgery:
        if self.alpha is not None and self.relative_alpha is not None:
            raise ValueError("give alpha or relative_alpha, not both")
        return self

    @property
    def given_scale(self) -> float | None:
        """1: factors, and the paper's, are in the terms. None: to be calibrated."""
        factors = (self.alpha, self.relative_alpha)
        return None if self.probe == "converged" and factors == (None, None) else 1.0

    @property
    def probe_settings(self) -> Mapping[str, Any]:
        named = {*_TRAINING, "train_fraction", "weight_decay"}
        return {"kind": self.probe, **self.model_dump(include=named, exclude_none=True)}

    def delta_bytes(self, sizes: Sizes) -> int:
        rows = self.fraction * sum(sizes.gates)
        # All terms share one direction, which is stored once.
        return sizes.delta_bytes(sizes.hidden, rows, len(sizes.gates))
