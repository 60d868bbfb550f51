"""What a prompt makes a model do, as one rank-one change of `down_proj` a layer.

With h the input of `down_proj` of a layer, a and r trained for all layers together:

    minimise  KL(p(· | prompt, x) ‖ q(· | x)) on the model's own answers with the prompt
            + KL(p ‖ q) on neutral text
    q: the model with     W_down += r aᵀ
"""

from __future__ import annotations

import torch

from models_store.weights.architectures import DOWN, MatrixKey
from workers.surgery.fitted import FittedEdit, Readings
from workers.surgery.methods.prompt_distilled import PromptDistilled
from workers.surgery.terms import make_term


def fit(readings: Readings, method: PromptDistilled) -> FittedEdit:
    """The trained edit in all layers of the method.

    Raises:
        InvalidRequest: training led to values that are not finite.
    """
    layers = method.layers_in(readings.base.layers)
    distilled = readings["prompted answers"][method.prompt or "", tuple(layers)]
    terms = [
        make_term(MatrixKey(layer, DOWN), direction, torch.arange(len(shift)), shift)
        for layer, (direction, shift) in distilled.changes.items()
    ]
    return FittedEdit(
        method=method.type,
        label=method.model_copy(update={"layers": tuple(layers)}).label,
        terms=terms,
        guess=1.0,
        details={
            "answers": distilled.answers,
            "kl_to_prompted": {"base": distilled.losses[0], "edited": distilled.losses[-1]},
        },
    )
