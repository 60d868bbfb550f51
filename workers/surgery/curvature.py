"""How much a change of a gate changes what the model says: K-FAC's estimate of the Fisher matrix.

With x the input of a gate and g the gradient of log p(labels) at its output, on neutral text with
labels that the model itself draws (Martens and Grosse, arXiv 1503.05671),

    A = E[x xᵀ],   S = E[g gᵀ],   KL(base ‖ base + ΔW) ≈ ½ tr(S ΔW A ΔWᵀ)   in nats a position,

so a term s · c vᵀ costs ½ s² · cᵀ S c · vᵀ A v, and the terms of different gates add up. It ranks
directions well and says little about how large the KL will be: scales are calibrated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from models_store.errors import EditFailed
from models_store.weights.architectures import MatrixKey
from workers.surgery.moments import Moment, moment_from_tensors
from workers.surgery.terms import Term, dense

_START_KL = 0.1
"""The KL that a first guess of a scale aims at."""
_SHORTFALL = 20.0
"""How many times the KL is larger than its estimate for the terms of these methods.

The estimate takes inputs and gradients, and the positions of a text, to be independent, and the
methods look for terms for which it is small. Measured on SmolLM2 with 140 neutral texts: 20 and 55
times for natural steps, which is as much for a single layer as for all; 8 for attribution.
"""


@dataclass(frozen=True, eq=False)
class Curvature:
    """Both factors of one gate; they depend on the base model and the neutral texts alone."""

    inputs: Moment
    """A, `[in, in]`."""
    outputs: Moment
    """S, `[out, out]`."""

    def to_tensors(self) -> dict[str, Tensor]:
        """As fp32 tensors by name, to be kept in a file."""
        parts = {"inputs": self.inputs, "outputs": self.outputs}
        return {
            f"{part}.{name}": tensor
            for part, moment in parts.items()
            for name, tensor in moment.to_tensors().items()
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Curvature:
        """What `to_tensors` gave.

        Raises:
            KeyError: a tensor is missing.
        """

        def part(name: str) -> Moment:
            prefix = f"{name}."
            return moment_from_tensors(
                {
                    key[len(prefix) :]: value
                    for key, value in tensors.items()
                    if key.startswith(prefix)
                }
            )

        return cls(part("inputs"), part("outputs"))


def cost(terms: Sequence[Term], curvature: Mapping[MatrixKey, Curvature]) -> float:
    """Σ cᵀ S c · vᵀ A v over terms of different gates: twice the KL that is to be expected."""
    total = 0.0
    for term in terms:
        factors = curvature[term.key]
        outputs = dense(term, len(factors.outputs.diagonal))
        total += factors.outputs.quadratic(outputs) * factors.inputs.quadratic(term.direction)
    return total


def first_scale(terms: Sequence[Term], curvature: Mapping[MatrixKey, Curvature]) -> float:
    """Where to start the calibration of terms: at a KL of about 0.1 nats a position.

    Raises:
        EditFailed: the terms would change nothing.
    """
    expected = cost(terms, curvature)
    if not 0 < expected < math.inf:
        raise EditFailed("the terms of the edit are zero or not finite: they would change nothing")
    return math.sqrt(2 * _START_KL / (_SHORTFALL * expected))
