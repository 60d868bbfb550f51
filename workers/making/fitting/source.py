"""What an edit is made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models_store.schemas.items import Item
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.data.splits import Splits
from workers.runtime.edits.edited_model import EditedModel


@dataclass(frozen=True, eq=False)
class Source:
    """What an edit is made from."""

    model: EditedModel
    """What the edit goes on top of: the base, with the parent edits if any."""
    splits: Splits
    chat: bool
    """Prompts pass through the chat template."""
    seed: int
    preserve: Sequence[Item] = ()
    """For methods that take care of it while they are fitted."""
    max_new_tokens: int = 32
    """Of what the model continues prompts with, for methods that learn from it."""

    @classmethod
    def of(cls, context: EvaluationContext) -> Source:
        """Of the edit that will be measured against this."""
        return cls(
            model=context.model,
            splits=context.splits,
            chat=context.behavior.chat,
            seed=context.seed,
            preserve=context.preserve,
            max_new_tokens=context.behavior.max_new_tokens,
        )
