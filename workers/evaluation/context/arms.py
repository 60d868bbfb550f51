"""Generate from prompts as the scored texts of an evaluation are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.effect.generations import Arm, generate_arm
from workers.evaluation.progress import Progress
from workers.runtime.side_path import SidePath
from workers.runtime.tokens import encode_prompt
from workers.surgery.terms import Mixture


class ArmMaker:
    """Continues prompts with any mixture of edits, always with the same settings."""

    def __init__(self, context: EvaluationContext, side: SidePath) -> None:
        self._context = context
        self._side = side

    def make(
        self,
        asked: Sequence[str],
        mixture: Mixture,
        progress: Progress,
        *,
        samples: int | None = None,
        seed: int | None = None,
    ) -> Arm:
        """Continue each of `asked`.

        Args:
            samples: of each; by default as many as the plan has.
            seed: of the random numbers; by default those of the test prompts.
        """
        base, decoding = self._context.base, self._context.decoding
        chat = self._context.behavior.chat
        return generate_arm(
            base,
            [encode_prompt(base, text, chat=chat) for text in asked],
            mixture,
            replace(
                decoding,
                samples=decoding.samples if samples is None else samples,
                seed=decoding.seed if seed is None else seed,
            ),
            side=self._side,
            progress=progress,
        )


def base_arm(context: EvaluationContext, progress: Progress) -> Arm:
    """What the model without the edit makes of the test prompts; no edit changes it, so it can be
    kept."""
    asked = [prompt.text for prompt in context.prompts]
    return ArmMaker(context, SidePath(context.base)).make(asked, context.on_top, progress)
