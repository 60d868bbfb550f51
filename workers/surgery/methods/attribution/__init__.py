"""The method `attribution`: its settings, and what it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from models_store.schemas.method_base import (
    Damping,
    DocsRow,
    Factor,
    FixedMethod,
    MaxTokens,
    Need,
    Row,
    Share,
    Sizes,
)
from models_store.weights.architectures import GATE


class Attribution(FixedMethod):
    """The gate rows with the largest gain for their cost, moved along the whitened difference of
    means at the gate's input: closest to the paper's form. Scaled as `bias` is."""

    place: ClassVar = 6
    docs: ClassVar = DocsRow(
        "some gate rows", "forward, and forward and backward", "curvature of gates"
    )
    fit: ClassVar = "workers.surgery.methods.attribution.fit:fit"
    modules: ClassVar = (GATE,)
    # The rows and their signs are a region here, which has a control of its own.
    carrier: ClassVar = "direction"
    solve_seconds: ClassVar = 5.0
    search: ClassVar = (Row(120),)

    type: Literal["attribution"] = "attribution"
    """Name of the method."""
    fraction: Share = 0.0465
    """Share of all gate rows that are edited."""
    damping: Damping = 0.05
    """Of the whitening, as a share of the mean of the moment matrix' diagonal."""
    scale: Factor | None = None
    """Multiple of the step; by default calibrated to `limits.max_kl`."""
    max_tokens: MaxTokens = 100
    """Tokens after which a text is cut."""

    def needs(self, layers: int) -> Sequence[Need]:
        return Need("curvature", range(layers)), Need("gates", range(layers))

    def delta_bytes(self, sizes: Sizes) -> int:
        return sizes.gate_bytes(sizes.gates, self.fraction)
