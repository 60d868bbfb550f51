"""A natural gradient that is felt only where a response to a prompt of the behaviour starts.

`bias` and `natural_bias` shift every token alike, so a model that is to refuse some prompts comes
to refuse all of them. This writes the same form with another a. Of one layer:

    a = (E_behavior[h hᵀ] + E_preserved[h hᵀ] + E_rest[h hᵀ] + E_first[h hᵀ]
         + ridge · mean diag · I)⁻¹ E_behavior[h]
    g = ∂/∂c (mean log p(desired) - mean log p(undesired))      c added at that token alone
    r = (F + damping · mean diag F · I)⁻¹ g                     F of the method `natural_bias`
    W_down += s · r aᵀ

with h the input of `down_proj` at the tokens of a kind: `behavior` and `preserved`, the last
before a response to a prompt of the behaviour and to a preserved one, where it is decided how the
response starts; `rest`, all others of both but first ones; `first`, first ones. The mean of the
diagonal is that of E_behavior. a · h is about 1 where a prompt of the behaviour ends and about 0
elsewhere, so neutral text does not show what the shift costs where it is felt. What bounds the
scale there is an estimate: ½ s² (Σ √(rᵀ F r))², with the sum over layers, is what the curvature
says of the KL of neutral text that would feel it at every token.

The idea to steer under a condition that is read off hidden states is that of Lee et al., arXiv
2409.05907; here both are in the weights.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from workers.surgery.candidate import Candidate, Readings
from workers.surgery.methods.conditional import Conditional
from workers.surgery.methods.natural_bias.fit import candidate_of, fit_natural_bias
from workers.surgery.regression import AnswerStarts, FirstTokens, Regression, respond


@dataclass(frozen=True)
class Felt:
    """How well a layer separates prompts that it was not fitted on; None without any."""

    layer: int
    asked: float | None
    """Mean of a · h: 1 would be perfect."""
    spared: float | None
    """Root mean square of a · h: 0 would be perfect."""


def fit(readings: Readings, method: Conditional) -> Candidate:
    """The edit in all layers of the method.

    Raises:
        EditFailed: as `condition` and `fit_natural_bias`.
    """
    layers = method.layers_in(readings.base.layers)
    conditions = [
        condition(readings["answer starts"][layer], readings["first tokens"][layer], method.ridge)
        for layer in layers
    ]
    fitted = fit_natural_bias(
        [regression for regression, _ in conditions],
        readings["answer shifts"][method.answer_tokens],
        readings["shift curvature"],
        damping=method.damping,
    )
    label = method.model_copy(update={"layers": layers}).label
    made = candidate_of(fitted, method.type, label)
    felt = {"felt": [asdict(felt) for _, felt in conditions], "felt_kl": fitted.kl}
    return replace(made, details={**made.details, **felt}, felt_kl=fitted.kl)


def condition(
    statistics: AnswerStarts, first: FirstTokens, ridge: float
) -> tuple[Regression, Felt]:
    """Fit where one layer feels the edit.

    Args:
        ridge: damping of the regression, as a share of the mean of E_behavior[h hᵀ]'s diagonal.

    Raises:
        EditFailed: the activations are not finite or all zero.
    """
    damping = ridge * statistics.behavior_square
    regression = respond(statistics.layer, statistics.behavior, statistics.second, first, damping)
    behavior, preserved = (
        unseen.double() @ regression.vector
        for unseen in (statistics.unseen_behavior, statistics.unseen_preserved)
    )
    felt = Felt(
        statistics.layer,
        asked=float(behavior.mean()) if len(behavior) else None,
        spared=float(preserved.square().mean().sqrt()) if len(preserved) else None,
    )
    return regression, felt
