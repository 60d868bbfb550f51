"""The methods, one a file, and what the rest needs to know about each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class MethodTraits:
    """What the code around a method (controls, calibration) depends on."""

    carrier: Literal["direction", "coefficients"]
    """Which vector of a term carries the behaviour; a random-direction control replaces it."""
    chooses_rows: bool
    """Whether the method picks rows, so that a random region is a control of it."""
    calibrated: bool
    """Whether the scale is found from a limit on the damage, and not given as a number."""


METHODS: Mapping[str, MethodTraits] = {
    "model_surgery": MethodTraits(carrier="direction", chooses_rows=True, calibrated=False),
    "bias": MethodTraits(carrier="coefficients", chooses_rows=False, calibrated=True),
    "natural": MethodTraits(carrier="coefficients", chooses_rows=False, calibrated=True),
    "attribution": MethodTraits(carrier="direction", chooses_rows=True, calibrated=True),
}
"""By the name that a request gives as `method.type`."""
