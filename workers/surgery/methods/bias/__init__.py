"""The method `bias`: its settings, and what it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

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

DEPTHS = (0.48, 0.58, 0.68)
"""Where to write by default, as shares of the depth: the best layers of two small models."""


class Bias(FixedMethod):
    """Difference of means of the residual stream, written into `down_proj` of a few layers.

    Scaled so that the KL divergence to the base model on neutral text is `limits.max_kl`, unless
    `scale` says otherwise.
    """

    place: ClassVar = 2
    docs: ClassVar = DocsRow("`down_proj` of a few layers", "forward, twice", "first tokens")
    fit: ClassVar = "workers.surgery.methods.bias.fit:fit"
    modules: ClassVar = (DOWN,)
    carrier: ClassVar = "coefficients"
    search: ClassVar = (
        Row(40, (RowPart(band=(0.4, 0.67)),)),
        Row(60, (RowPart(depths=DEPTHS),)),
    )

    type: Literal["bias"] = "bias"
    """Name of the method."""
    layers: Layers | None = None
    """Layers to write into; by default three, at about a half, three fifths and two thirds."""
    scale: Factor | None = None
    """Multiple of the difference of means; by default calibrated to `limits.max_kl`."""
    ridge: Damping = 0.01
    """Damping of the regression, as a share of the mean of the moment matrix' diagonal."""
    max_tokens: MaxTokens = 100
    """Tokens after which a text is cut."""

    def default_layers(self, layers: int) -> Sequence[int]:
        return tuple(sorted({int(depth * layers) for depth in DEPTHS}))

    def needs(self, layers: int) -> Sequence[Need]:
        written = self.layers_in(layers)
        return Need("layers", written), Need("first tokens", written)

    def delta_bytes(self, sizes: Sizes) -> int:
        return sizes.down_bytes(len(self.layers_in(sizes.layers)))
