"""Other ways to the same end, to compare an edit with: directional ablation and a prompt.

Steering by a hook, the third one, is in `workers.runtime.edits.steering`.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten

import torch
from torch import Tensor

from models_store.errors import InvalidRequest
from models_store.schemas.behaviors import Behavior
from models_store.schemas.items import Item, text_of
from models_store.weights.architectures import DOWN, OUTPUT, SHARED_DOWN
from workers.evaluation.data.splits import Sides
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import Term, make_term

EXAMPLE_CHARACTERS = 200
"""Examples in a prompt are cut there, at a word: a prompt is to stay short."""
DESCRIPTION_CHARACTERS = 500


def ablation_terms(base: LoadedModel, direction: Tensor) -> list[Term]:
    """Keep every layer from writing along a direction (Arditi et al., arXiv 2406.11717).

        W ← W - r̂ r̂ᵀ W      for W = o_proj and down_proj of every layer

    which is one term a matrix: direction `Wᵀ r̂`, coefficients `-r̂`. The paper ablates the
    embedding as well; no delta reaches it.

    Args:
        direction: `r`, `[hidden]`; its length does not matter.

    Raises:
        InvalidRequest: the direction is zero, not finite or of another size.
    """
    size = float(direction.norm())
    if direction.shape != (base.hidden_size,) or not 0 < size < float("inf"):
        raise InvalidRequest(
            f"a direction to ablate must be finite, not zero and of shape ({base.hidden_size},); "
            f"this one has shape {tuple(direction.shape)} and norm {size}"
        )
    unit = direction.detach().to("cpu", torch.float32) / size
    rows = torch.arange(base.hidden_size)
    return [
        make_term(key, base.matrix(key).float().cpu().T @ unit, rows, -unit)
        for key in base.architecture.matrices(OUTPUT, DOWN, SHARED_DOWN)
    ]


def prompt_wordings(behavior: Behavior, fit: Sides) -> tuple[str, str, str]:
    """Three fixed ways to ask for the desired side, to put before a prompt.

    What somebody would try who edits no weights: tell what is wanted, show it, and show both sides
    by their names, of which the last is that of what is to come.

    Args:
        fit: the texts that an edit is fitted on, which the examples are taken from.
    """
    desired, undesired = _examples(fit.desired, 3), _examples(fit.undesired, 2)
    wish = shorten(behavior.description, DESCRIPTION_CHARACTERS, placeholder="")
    wish = wish or f"Write like this: {desired[0]}"
    question = behavior.question
    request = f"{question} The answer must be no." if question else "Write in the desired way only."
    good, bad = (f"{question} No:", f"{question} Yes:") if question else ("Good:", "Bad:")
    labelled = [(bad, undesired[0]), (good, desired[0]), (bad, undesired[1]), (good, desired[1])]
    return (
        f"{wish}\n{request}",
        "\n\n".join(desired),
        "\n".join([*(f"{label} {text}" for label, text in labelled), good]),
    )


def _examples(items: Sequence[Item], count: int) -> list[str]:
    return [shorten(text_of(item), EXAMPLE_CHARACTERS, placeholder="") for item in items[:count]]
