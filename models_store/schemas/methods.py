"""Settings of the editing methods, as a request gives them, with their defaults.

The methods themselves are in `workers.surgery.methods`; a method is added by a class here and a
file there.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Factor = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
"""Bounded, so that a product with it is still a number in fp32."""


def _different(layers: tuple[int, ...]) -> tuple[int, ...]:
    if not layers or len(set(layers)) != len(layers):
        raise ValueError("layers must be a non-empty list without repeats")
    return layers


Layers = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...], Field(max_length=256), AfterValidator(_different)
]
"""Numbers of layers, from 0."""


class _Method(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ModelSurgery(_Method):
    """The paper's method (arXiv 2407.08770) with the paper's settings as defaults.

    The probe's direction is added to the gate rows that point most away from it:
    `row += alpha · direction`.
    """

    type: Literal["model_surgery"] = "model_surgery"
    alpha: Factor | None = None
    """Factor of the raw direction; the paper's 1 when neither factor is given."""
    relative_alpha: Factor | None = None
    """`alpha · ‖direction‖ / mean norm of all gate rows`: comparable between models."""
    fraction: Annotated[float, Field(gt=0, le=1)] = 0.0465
    """Share of all gate rows that are edited."""
    epochs: Annotated[int, Field(ge=1, le=1000)] = 9
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-4
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 16
    train_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.9
    max_tokens: Annotated[int, Field(ge=2, le=4096)] = 100
    """Texts are cut at this many tokens."""

    @model_validator(mode="after")
    def _one_factor(self) -> ModelSurgery:
        if self.alpha is not None and self.relative_alpha is not None:
            raise ValueError("give alpha or relative_alpha, not both")
        return self


class Bias(_Method):
    """Difference of means of the residual stream, written into `down_proj` of a few layers.

    Scaled so that the KL divergence to the base model on neutral text is `limits.max_kl`, unless
    `scale` says otherwise.
    """

    type: Literal["bias"] = "bias"
    layers: Layers | None = None
    """Layers to write into; by default three, at about a half, three fifths and two thirds."""
    scale: Factor | None = None
    """Multiple of the difference of means; by default calibrated to `limits.max_kl`."""
    ridge: Annotated[float, Field(gt=0, le=100)] = 0.01
    """Damping of the regression, as a share of the mean of the moment matrix' diagonal."""
    max_tokens: Annotated[int, Field(ge=2, le=4096)] = 100


class Natural(_Method):
    """Rank-one natural gradient of the gates, toward desired and away from undesired texts.

    Needs a backward pass over the texts, and over neutral text once for each base model. Scaled
    as `bias` is.
    """

    type: Literal["natural"] = "natural"
    layers: Layers | None = None
    """Layers whose gate is edited; by default all of them."""
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of all gate rows that is kept."""
    damping: Annotated[float, Field(gt=0, le=100)] = 0.03
    """Of both factors of the curvature, as a share of the mean of their diagonals."""
    scale: Factor | None = None
    """Multiple of the step; by default calibrated to `limits.max_kl`."""
    max_tokens: Annotated[int, Field(ge=2, le=4096)] = 100


class NaturalBias(_Method):
    """Natural gradient of a shift of the residual stream, written into `down_proj` of many layers.

    Needs backward passes as `natural` does, and writes as `bias` does. Scaled as `bias` is.
    """

    type: Literal["natural_bias"] = "natural_bias"
    layers: Layers | None = None
    """Layers to write into; by default every second one after the first eighth."""
    answer_tokens: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Use only the first so many tokens of an answer, for decisions made there, such as whether to
    refuse."""
    damping: Annotated[float, Field(gt=0, le=100)] = 0.3
    """Of the curvature, as a share of the mean of its diagonal."""
    ridge: Annotated[float, Field(gt=0, le=100)] = 0.01
    """Damping of the regression, as a share of the mean of the moment matrix' diagonal."""
    scale: Factor | None = None
    """Multiple of the step; by default calibrated to `limits.max_kl`."""
    max_tokens: Annotated[int, Field(ge=2, le=4096)] = 100


class Conditional(_Method):
    """A natural gradient that acts only where the answer to certain prompts begins. For behaviours
    that depend on the prompt, such as refusal: the behaviour's texts are answers to the prompts to
    change, `preserve` has answers to prompts that must not change. Needs backward passes as
    `natural_bias` does."""

    type: Literal["conditional"] = "conditional"
    layers: Layers | None = None
    """Layers to write into; by default every second one after the first eighth."""
    answer_tokens: Annotated[int, Field(ge=1, le=4096)] = 10
    """Number of first tokens of an answer that are used."""
    damping: Annotated[float, Field(gt=0, le=100)] = 0.3
    """Of the curvature, as a share of the mean of its diagonal."""
    ridge: Annotated[float, Field(gt=0, le=100)] = 0.03
    """Damping of the regression, as a share of the mean of the moment matrix' diagonal."""
    scale: Factor | None = None
    """Multiple of the step; by default calibrated to `limits.max_kl`."""
    max_tokens: Annotated[int, Field(ge=2, le=4096)] = 100


class Attribution(_Method):
    """The gate rows with the largest gain for their cost, moved along the whitened difference of
    means at the gate's input: closest to the paper's form. Scaled as `bias` is."""

    type: Literal["attribution"] = "attribution"
    fraction: Annotated[float, Field(gt=0, le=1)] = 0.0465
    """Share of all gate rows that are edited."""
    damping: Annotated[float, Field(gt=0, le=100)] = 0.05
    """Of the whitening, as a share of the mean of the moment matrix' diagonal."""
    scale: Factor | None = None
    """Multiple of the step; by default calibrated to `limits.max_kl`."""
    max_tokens: Annotated[int, Field(ge=2, le=4096)] = 100


class Auto(_Method):
    """A search: tries methods, layers, scales and pairs, and keeps the one that does most within
    the limits."""

    type: Literal["auto"] = "auto"
    max_tokens: Annotated[int, Field(ge=2, le=4096)] = 100


FixedMethod = ModelSurgery | Bias | Natural | NaturalBias | Conditional | Attribution
"""A method that makes one edit, as opposed to a search."""
Method = Annotated[
    ModelSurgery | Bias | Natural | NaturalBias | Conditional | Attribution | Auto,
    Field(discriminator="type"),
]
Effort = Literal["quick", "standard", "thorough"]
"""How much is tried and measured."""


class Limits(BaseModel):
    """Bounds on the damage of an edit."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    max_kl: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = 0.1
    """Mean KL(base ‖ edited) on neutral text, in nats a token."""
    max_perplexity_ratio: Annotated[float, Field(gt=1, le=100, allow_inf_nan=False)] = 1.12
    """Perplexity of neutral text, edited over base."""
    max_domain: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = 0.3
    """Rise of the negative log-likelihood of the base's own desired text, nats a token."""
    max_fluency: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = 0.25
    """Rise of another model's negative log-likelihood of what is generated, nats a token."""
