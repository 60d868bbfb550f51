"""How much of a search for an edit an effort pays for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from models_store.schemas.methods import Effort
from workers.evaluation.damage.damage import REPORTED, SEARCHED, DamagePlan


@dataclass(frozen=True)
class Budget:
    """Of one search."""

    candidates: int | None
    """Rows of the table of recipes, from its top; None: all."""
    prompts: int | None
    """Validation prompts that each is tried on; None: all."""
    finalists: int
    """The best ones, which are scaled once more with care and tried on more prompts."""
    final_prompts: int | None
    damage: DamagePlan
    """In the race."""
    final_damage: DamagePlan = REPORTED


BUDGETS: Mapping[Effort, Budget] = {
    "quick": Budget(
        4,
        40,
        finalists=1,
        final_prompts=None,
        damage=SEARCHED,
        final_damage=DamagePlan(),
    ),
    "standard": Budget(10, 60, finalists=3, final_prompts=None, damage=SEARCHED),
    "thorough": Budget(None, None, finalists=5, final_prompts=None, damage=REPORTED),
}
