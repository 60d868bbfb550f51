"""A small evaluation of a pico model: what the tests of its parts have in common."""

from __future__ import annotations

from typing import Any

import torch

from models_store.schemas.methods import Limits
from models_store.weights.architectures import DOWN, GATE, MatrixKey
from tests.support.pico import HIDDEN, INTERMEDIATE
from tests.workers.evaluation.texts import behavior
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.context.plan import EvaluationPlan
from workers.evaluation.damage.damage import DamagePlan
from workers.evaluation.data.splits import split_behavior
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import Mixture, Term, make_term

PLAN = EvaluationPlan(
    test_prompts=12,
    damage=DamagePlan(neutral_each=3, long_texts=2, harmless_requests=2),
    dose_damage=DamagePlan(neutral_each=2, own_samples=0, heldout_texts=4),
    controls=(
        "random_direction",
        "permuted_labels",
        "random_region",
        "paper_alpha",
        "paper_equal_kl",
    ),
    control_prompts=6,
    control_neutral_each=2,
    wording_prompts=4,
    resamples=200,
    shown=3,
)
"""Without the prompt, whose wordings are long for a pico model."""


def small_context(base: LoadedModel, mixture: Mixture = (), **changes: Any) -> EvaluationContext:
    """An edit by `bias`, on top of others, of a behaviour with 40 texts a side and 40 prompts."""
    made = behavior(
        40,
        prompts=[f"people of place {i} are" for i in range(40)],
        max_new_tokens=6,
        scorers=("tfidf", "vader"),
    )
    fields: dict[str, Any] = {
        "model": EditedModel(base, mixture),
        "behavior": made,
        "splits": split_behavior(made, seed=0),
        "method": "bias",
        "limits": Limits(),
        "seed": 0,
        "plan": PLAN,
        **changes,
    }
    return EvaluationContext(**fields)


def bias_term(size: float = 0.3, seed: int = 0) -> Term:
    """On all rows of a `down_proj`, as `bias` makes them."""
    generator = torch.Generator().manual_seed(seed)
    return make_term(
        MatrixKey(1, DOWN),
        torch.randn(INTERMEDIATE, generator=generator),
        torch.arange(HIDDEN),
        size * torch.randn(HIDDEN, generator=generator),
    )


def gate_term(size: float = 1.0) -> Term:
    """On some rows of a gate, as `model_surgery` makes them."""
    return make_term(MatrixKey(0, GATE), torch.ones(HIDDEN), torch.arange(8), size * torch.ones(8))
