"""Where a layer feels what is written into its `down_proj`: everywhere but at first tokens.

Of one layer, with h the input of its `down_proj`:

    a = (E_rest[h hᵀ] + E_first[h hᵀ] + ridge · mean diag(E_rest[h hᵀ]) · I)⁻¹ E_rest[h]

a · h is about 1 on every token but the first of a text and about 0 on the first. That token carries
a huge activation on which attention rests (the attention sink); without the second term in the
regression an edit moves it and does the opposite of what it is for.

Where neutral text is to feel less than the behaviour's, `weight · E_neutral[h hᵀ]` is added inside
of the brackets.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models_store.errors import EditFailed
from models_store.weights.architectures import DOWN, MatrixKey
from workers.surgery.fitted import Readings
from workers.surgery.terms import Term, make_term

DEFAULT_RIDGE = 0.01
MAX_FIRST_TOKEN_RMS = 0.1
"""A layer whose a · h on unseen first tokens is larger than this is left alone."""


class TokenMoments:
    """Running E[h] and E[h hᵀ] of vectors that come in batches; sums in fp32."""

    def __init__(self, size: int, device: torch.device) -> None:
        self._count = torch.zeros((), dtype=torch.int64)
        self._first = torch.zeros(size, device=device)
        self._second = torch.zeros(size, size, device=device)

    def add_(self, vectors: Tensor) -> None:
        """Count in `[n, size]`, any float dtype."""
        wide = vectors.float()
        self._count += len(wide)
        self._first += wide.sum(dim=0)
        self._second.addmm_(wide.T, wide)

    @property
    def count(self) -> int:
        return int(self._count)

    @property
    def mean(self) -> Tensor:
        """fp64 `[size]` on the CPU."""
        return self._first.double().cpu() / self._count

    @property
    def second(self) -> Tensor:
        """fp64 `[size, size]` on the CPU."""
        return self._second.double().cpu() / self._count

    def tensors(self) -> list[Tensor]:
        """Those of some vectors and those of others add up to those of all."""
        return [self._count, self._first, self._second]


@dataclass(frozen=True, eq=False)
class LayerStatistics:
    """What is known of one layer."""

    layer: int
    desired: Tensor
    """fp64 `[hidden]`: mean residual stream after the layer, over desired texts."""
    undesired: Tensor
    """fp64 `[hidden]`."""
    rest: TokenMoments
    """Of the inputs of `down_proj`, `[intermediate]`, at every token but first ones."""
    output_norm: float
    """Root mean square norm of what `down_proj` gives at these tokens."""

    @property
    def difference(self) -> Tensor:
        """r: fp64 `[hidden]`."""
        return self.desired - self.undesired


@dataclass(frozen=True, eq=False)
class FirstTokens:
    """Inputs of `down_proj` of one layer at the first token of a text, for different tokens."""

    fitted: Tensor
    """fp32 `[n, intermediate]`: those that the regression is to send to 0."""
    checked: Tensor
    """fp32 `[m, intermediate]`: those on which it is checked; others, where there are others."""


@dataclass(frozen=True, eq=False)
class AnswerStarts:
    """Inputs h of `down_proj` of one layer where responses start, and elsewhere."""

    layer: int
    behavior: Tensor
    """fp64 `[intermediate]`: E_behavior[h]."""
    behavior_square: float
    """Mean of the diagonal of E_behavior[h hᵀ]."""
    second: Tensor
    """fp32 `[intermediate, intermediate]`: E[h hᵀ] of behavior, preserved and rest, added."""
    unseen_behavior: Tensor
    """fp32 `[n, intermediate]`: where responses to prompts start that are not fitted on."""
    unseen_preserved: Tensor
    """fp32 `[m, intermediate]`."""


@dataclass(frozen=True)
class LayerCheck:
    """How well a layer leaves first tokens alone."""

    layer: int
    first_token_rms: float
    """Root mean square of a · h on the first tokens that it is checked on."""
    first_token_max: float
    used: bool


@dataclass(frozen=True, eq=False)
class Regression:
    """Where a layer feels what is written into it: a · h by token, with h the input there."""

    check: LayerCheck
    vector: Tensor
    """a: fp64 `[intermediate]`."""


@dataclass(frozen=True, eq=False)
class LayerFit(Regression):
    """What can be written into one layer; it does not depend on the others."""

    term: Term | None
    """At scale 1; None where first tokens would move or both sides have the same mean."""
    shift: float
    """Norm of the difference of means, as a share of that of what `down_proj` gives."""


def regress(mean: Tensor, second: Tensor, first: FirstTokens, damping: float) -> Tensor:
    """a: the vector with a · h ≈ 1 at some tokens, and 0 at others and first ones, fp64 `[size]`.

    Args:
        mean: E[h] at the tokens where it is to be 1, fp64 `[size]`.
        second: E[h hᵀ] at these, plus that at those where it is to be 0, `[size, size]`.

    Raises:
        EditFailed: the activations are not finite or all zero.
    """
    fitted = first.fitted.double()
    damped = (fitted.T @ fitted).div_(len(fitted)).add_(second)
    damped.diagonal().add_(damping)
    factor, failed = torch.linalg.cholesky_ex(damped)
    if failed:
        raise EditFailed("the activations of a layer are not finite or all zero")
    return torch.cholesky_solve(mean[:, None], factor)[:, 0]


def respond(
    layer: int, mean: Tensor, second: Tensor, first: FirstTokens, damping: float
) -> Regression:
    """The regression of a layer, and how well it leaves first tokens alone.

    Raises:
        EditFailed: as `regress`.
    """
    vector = regress(mean, second, first, damping)
    responses = first.checked.double() @ vector
    rms = float(responses.square().mean().sqrt())
    check = LayerCheck(layer, rms, float(responses.abs().max()), rms <= MAX_FIRST_TOKEN_RMS)
    return Regression(check, vector)


def fit_layer(
    statistics: LayerStatistics,
    first: FirstTokens,
    ridge: float = DEFAULT_RIDGE,
    *,
    neutral: Tensor | None = None,
) -> LayerFit:
    """Fit one layer.

    Args:
        ridge: damping of the regression, as a share of the mean of the diagonal of E_rest[h hᵀ].
        neutral: weight · E_neutral[h hᵀ], fp64 `[intermediate, intermediate]`.

    Raises:
        EditFailed: the activations are not finite or all zero.
    """
    second = statistics.rest.second
    damping = ridge * float(second.diagonal().mean())
    if neutral is not None:
        second = second + neutral
    regression = respond(statistics.layer, statistics.rest.mean, second, first, damping)
    length = float(statistics.difference.norm())
    term = None
    if regression.check.used and length > 0:
        rows = torch.arange(len(statistics.difference))
        key = MatrixKey(statistics.layer, DOWN)
        term = make_term(key, regression.vector, rows, statistics.difference)
    return LayerFit(regression.check, regression.vector, term, length / statistics.output_norm)


def layer_fit(
    readings: Readings, layer: int, ridge: float, neutral_weight: float = 0.0
) -> LayerFit:
    """`fit_layer` of what was read; several edits share it.

    Raises:
        EditFailed: as `fit_layer`.
    """

    def fitted() -> LayerFit:
        neutral = None
        if neutral_weight:
            neutral = neutral_weight * readings["neutral inputs"][layer].second
        first = readings["first tokens"][layer]
        return fit_layer(readings["layers"][layer], first, ridge, neutral=neutral)

    return readings.once(("layer fit", layer, ridge, neutral_weight), fitted)
