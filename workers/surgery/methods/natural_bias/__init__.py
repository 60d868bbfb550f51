"""The method `natural_bias`: its settings, and what it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from models_store.schemas.method_base import (
    Damping,
    DocsRow,
    Factor,
    FixedMethod,
    Layers,
    MaxTokens,
    Need,
    Row,
    RowPart,
    Sizes,
)
from models_store.weights.architectures import DOWN

FROM_DEPTH = 0.13
"""Where to begin writing by default, as a share of the depth; the first layers only add damage."""
EVERY = 2
"""Neighbours want nearly the same shift: every second layer does as much as all of them."""


class NaturalBias(FixedMethod):
    """Natural gradient of a shift of the residual stream, written into `down_proj` of many layers.

    Needs backward passes as `natural` does, and writes as `bias` does. Scaled as `bias` is.
    """

    place: ClassVar = 4
    docs: ClassVar = DocsRow(
        "`down_proj` of every second layer",
        "forward twice, and forward and backward",
        "first tokens, curvature of shifts",
    )
    fit: ClassVar = "workers.surgery.methods.natural_bias.fit:fit"
    modules: ClassVar = (DOWN,)
    carrier: ClassVar = "coefficients"
    solve_seconds: ClassVar = 5.0
    search: ClassVar = (
        Row(20),
        Row(22, (RowPart(settings={"neutral_weight": 0.3}),)),
        Row(24, (RowPart(settings={"neutral_weight": 1.0}),)),
        Row(30, (RowPart(settings={"answer_tokens": 10}),), responses=True),
        Row(50, (RowPart(band=(0.4, 0.67)),)),
    )

    type: Literal["natural_bias"] = "natural_bias"
    """Name of the method."""
    layers: Layers | None = None
    """Layers to write into; by default every second one after the first eighth."""
    source: Literal["texts", "own"] = "texts"
    """What it learns from: the texts, or what the model itself continues their prompts with, as a
    classifier of the texts scores it. Where the model hardly ever shows one of the sides, or the
    classifier does not separate them, it is the texts all the same."""
    answer_tokens: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Use only the first so many tokens of a response, for decisions made there, such as whether to
    refuse."""
    damping: Damping = 0.3
    """Of the curvature, as a share of the mean of its diagonal."""
    ridge: Damping = 0.01
    """Damping of the regression, as a share of the mean of the moment matrix' diagonal."""
    neutral_weight: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = 0.0
    """Weight of neutral text in the regression: the larger, the less such text feels of the shift,
    so at the same KL the edit is larger on text like the behaviour's."""
    scale: Factor | None = None
    """Multiple of the step; by default calibrated to `limits.max_kl`."""
    max_tokens: MaxTokens = 100
    """Tokens after which a text is cut."""

    @property
    def label(self) -> str:
        whole = super().label + (", own continuations" if self.source == "own" else "")
        if self.neutral_weight:
            whole += f", neutral text weighs {self.neutral_weight:g}"
        if self.answer_tokens is None:
            return whole
        return f"{whole}, first {self.answer_tokens} tokens of answers"

    def default_layers(self, layers: int) -> Sequence[int]:
        """Every second one but the first and last."""
        return tuple(range(int(FROM_DEPTH * layers) + 1, layers - 1, EVERY)) or (layers - 1,)

    def needs(self, layers: int) -> Sequence[Need]:
        written = self.layers_in(layers)
        return (
            Need("layers", written),
            Need("first tokens", written),
            Need("shift curvature", written),
            Need("shifts", written, self.answer_tokens),
            *([Need("own shifts", written, self.answer_tokens)] if self.source == "own" else []),
            *([Need("neutral inputs", written)] if self.neutral_weight else []),
        )

    def delta_bytes(self, sizes: Sizes) -> int:
        return sizes.down_bytes(len(self.layers_in(sizes.layers)))
