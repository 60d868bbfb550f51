"""Difference of means, written into `down_proj` of a few layers as if it were a bias.

Of layer l, with h the input of its `down_proj` and x the residual stream after it:

    r = mean(x | desired) - mean(x | undesired)      all tokens but the first; means within a text,
                                                     then over texts
    a = (E_rest[h hᵀ] + E_first[h hᵀ] + ridge · mean diag(E_rest[h hᵀ]) · I)⁻¹ E_rest[h]
    W_down += s · r aᵀ

a · h is about 1 on every token but the first of a text and about 0 on the first
(`workers.surgery.regression`), so the layer gains the constant s · r where text is read. In
families that normalise what `down_proj` gives before they add it (Gemma 2 and 3, OLMo 2 and 3) the
stream gains the constant only up to that norm: its weights scale each dimension, a token's own
output all of them. Only forward passes are needed: the first token attends to nothing but itself,
so E_first comes from inputs of one token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from models_store.errors import EditFailed
from workers.surgery import regression
from workers.surgery.fitted import FittedEdit, Readings
from workers.surgery.methods.bias import Bias
from workers.surgery.regression import LayerCheck, LayerFit, layer_fit
from workers.surgery.terms import Term

_GUESSED_SHIFT = 0.4
"""First guess of ‖s · r‖ as a share of the norm of what `down_proj` gives, over all layers.

At a KL of 0.1 it is .3 to .7 on SmolLM2 and Gemma 3. The norm of the residual stream would be the
wrong measure: Gemma normalises the output of `down_proj` before adding it, so that a shift of a
thousandth of the residual stream already drowns it.
"""


@dataclass(frozen=True, eq=False)
class BiasFit:
    """Terms at scale 1, which adds the whole difference of means in every layer."""

    terms: tuple[Term, ...]
    checks: tuple[LayerCheck, ...]
    guess: float
    """A scale to start the calibration from, on any model."""


def fit(readings: Readings, method: Bias) -> FittedEdit:
    """The edit in all layers of the method.

    Raises:
        EditFailed: no layer can be written into.
    """
    layers = method.layers_in(readings.base.layers)
    fitted = combine([layer_fit(readings, layer, method.ridge) for layer in layers])
    return FittedEdit(
        method=method.type,
        label=method.model_copy(update={"layers": layers}).label,
        terms=fitted.terms,
        guess=fitted.guess,
        details={"layers": [asdict(check) for check in fitted.checks]},
    )


def combine(layers: Sequence[LayerFit]) -> BiasFit:
    """The edit that writes into all of these layers that can be written into.

    Raises:
        EditFailed: there is none.
    """
    checks = tuple(layer.check for layer in layers)
    terms = tuple(layer.term for layer in layers if layer.term is not None)
    if not terms:
        measured = ", ".join(f"{check.layer}: {check.first_token_rms:.2g}" for check in checks)
        raise EditFailed(
            "no layer can be written into: either the texts of the two sides have the same mean, "
            f"or first tokens would move (a · h at most {regression.MAX_FIRST_TOKEN_RMS} allowed; "
            f"by layer {measured})"
        )
    shifts = [layer.shift for layer in layers if layer.term is not None]
    total = sum(shift**2 for shift in shifts) ** 0.5
    return BiasFit(terms, checks, _GUESSED_SHIFT / total)
