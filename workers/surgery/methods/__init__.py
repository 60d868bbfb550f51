"""The methods, one a file, and what the rest needs to know about each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from models_store.weights.architectures import DOWN, GATE, SHARED_GATE


@dataclass(frozen=True)
class MethodTraits:
    """What the code around a method (controls, calibration) depends on."""

    carrier: Literal["direction", "coefficients"]
    """Which vector of a term carries the behaviour; a random-direction control replaces it."""
    modules: tuple[str, ...]
    """The matrices that the method writes to."""
    calibrated: bool
    """Whether the scale is found from a limit on the damage, and not given as a number."""


METHODS: Mapping[str, MethodTraits] = {
    "model_surgery": MethodTraits("direction", (GATE, SHARED_GATE), calibrated=False),
    "bias": MethodTraits("coefficients", (DOWN,), calibrated=True),
    # Both vectors of a natural step come from the behaviour. A random direction in place of v would
    # leave much of it: inputs of a gate share a large mean, so v · x would have one sign almost
    # everywhere, and c would still push the way that the gradient says, or the other, by chance.
    "natural_bias": MethodTraits("coefficients", (DOWN,), calibrated=True),
    "conditional": MethodTraits("coefficients", (DOWN,), calibrated=True),
    "natural": MethodTraits("coefficients", (GATE,), calibrated=True),
    # The rows and their signs are a region here, which has a control of its own.
    "attribution": MethodTraits("direction", (GATE,), calibrated=True),
}
"""By the name that a request gives as `method.type`."""
