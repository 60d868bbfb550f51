"""A natural gradient that is felt only where an answer to such a prompt begins.

`bias` and `natural_bias` shift every token alike, so a model that is to refuse some prompts comes
to refuse all of them. This writes the same form with another a. Of one layer, with h the input of
its `down_proj` at the token before the first of an answer, which is where it is decided:

    a = (E_asked[h hᵀ] + E_spared[h hᵀ] + E_rest[h hᵀ] + E_first[h hᵀ] + ridge · mean diag · I)⁻¹
        E_asked[h]
    g = ∂/∂c (mean log p(desired) - mean log p(undesired))      c added at that token alone
    r = (F + damping · mean diag F · I)⁻¹ g                     F of the method `natural_bias`
    W_down += s · r aᵀ

with the prompts of the behaviour asked, those to preserve spared, all other tokens of both the
rest, and the mean of the diagonal that of E_asked. a · h is about 1 where such a prompt ends and
about 0 elsewhere, so neutral text tells nothing of what the shift costs where it is felt: its
scale is bounded by ½ s² (Σ √(rᵀ F r))², what the curvature tells of that.

The idea to steer under a condition that is read off hidden states is that of Lee et al., arXiv
2409.05907; here both are in the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from workers.surgery.methods.bias import FirstTokens, Response, respond


@dataclass(frozen=True, eq=False)
class Beginnings:
    """Inputs h of `down_proj` of one layer where answers begin, and elsewhere."""

    layer: int
    asked: Tensor
    """fp64 `[intermediate]`: E_asked[h]."""
    asked_square: float
    """Mean of the diagonal of E_asked[h hᵀ]."""
    second: Tensor
    """fp64 `[intermediate, intermediate]`: E[h hᵀ] of the asked, the spared and the rest, added."""
    unseen_asked: Tensor | None
    """fp64 `[intermediate]`: mean at the ends of prompts not fitted on; None without any."""
    unseen_spared: Tensor | None


@dataclass(frozen=True)
class Felt:
    """How well a layer tells the prompts apart: means of a · h over prompts not fitted on."""

    layer: int
    asked: float | None
    """1 would be perfect; None where no such prompt was kept apart."""
    spared: float | None
    """0 would be perfect."""


def condition(statistics: Beginnings, first: FirstTokens, ridge: float) -> tuple[Response, Felt]:
    """Fit where one layer feels the edit.

    Args:
        ridge: damping of the regression, as a share of the mean of the diagonal of E_asked[h hᵀ].

    Raises:
        EditFailed: the activations are not finite or all zero.
    """
    damping = ridge * statistics.asked_square
    found = respond(statistics.layer, statistics.asked, statistics.second, first, damping)
    asked, spared = (
        None if means is None else float(means @ found.vector)
        for means in (statistics.unseen_asked, statistics.unseen_spared)
    )
    return found, Felt(statistics.layer, asked, spared)
