"""The method `natural`: its settings, and what it takes."""

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
    Share,
    Sizes,
)
from models_store.weights.architectures import GATE

_WEIGHED = RowPart("natural_bias", settings={"neutral_weight": 0.3})


class Natural(FixedMethod):
    """Rank-one natural gradient of the gates, toward desired and away from undesired texts.

    Needs a backward pass over the texts, and over neutral text once for each base model. Scaled
    as `bias` is.
    """

    place: ClassVar = 3
    docs: ClassVar = DocsRow(
        "all gates, rank one", "forward, and forward and backward", "curvature of gates"
    )
    fit: ClassVar = "workers.surgery.methods.natural.fit:fit"
    modules: ClassVar = (GATE,)
    # Both vectors of a natural step come from the behaviour. A random direction in place of v would
    # leave much of it: inputs of a gate share a large mean, so v · x would have one sign almost
    # everywhere, and c would still push the way that the gradient says, or the other, by chance.
    carrier: ClassVar = "coefficients"
    solve_seconds: ClassVar = 5.0
    search: ClassVar = (
        Row(70, (RowPart(share=0.1), RowPart("natural_bias"))),
        Row(80, (RowPart(share=0.25), _WEIGHED)),
        Row(90, (RowPart(share=0.5), _WEIGHED)),
        Row(100, (RowPart(share=0.5), RowPart("bias", depths=(0.58,)))),
        Row(110),
    )

    type: Literal["natural"] = "natural"
    """Name of the method."""
    layers: Layers | None = None
    """Layers whose gate is edited; by default all of them."""
    fraction: Share = 1.0
    """Share of all gate rows that is kept."""
    damping: Damping = 0.03
    """Of both factors of the curvature, as a share of the mean of their diagonals."""
    scale: Factor | None = None
    """Multiple of the step; by default calibrated to `limits.max_kl`."""
    max_tokens: MaxTokens = 100
    """Tokens after which a text is cut."""

    def needs(self, layers: int) -> Sequence[Need]:
        edited = self.layers_in(layers)
        return Need("curvature", edited), Need("gates", edited)

    def delta_bytes(self, sizes: Sizes) -> int:
        gates = sizes.gates if self.layers is None else sizes.gates[: len(self.layers)]
        return sizes.gate_bytes(gates, self.fraction)
