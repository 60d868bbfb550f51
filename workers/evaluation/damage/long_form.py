"""Longer generations than those that are scored otherwise: one long text, and a third answer.

An edit that looks good over a few words may run into loops over pages, or wear off as people talk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from models_store.schemas.items import Prompt
from models_store.schemas.measurements import LongForm
from workers.evaluation.damage.quality import quality_of
from workers.evaluation.effect.effect import Scored, score_grid
from workers.evaluation.effect.generations import Arm, Decoding, generate_arm
from workers.evaluation.progress import Progress
from workers.evaluation.scorers.prepare import PreparedScorer
from workers.evaluation.statistics import Bootstrap, groups_of
from workers.runtime.loading import BaseModel
from workers.runtime.side_path import SidePath
from workers.runtime.tokens import encode_prompt
from workers.surgery.terms import Mixture, Term

FOLLOW_UPS = ("Please go on.", "And what else comes to mind?")
"""What the user says after the first and after the second answer."""


@dataclass(frozen=True)
class LongPlan:
    """How much is generated."""

    prompts: int = 24
    long_tokens: int = 256
    turn_tokens: int = 64
    """Of each of the three answers."""


def long_form(
    base: BaseModel,
    prompts: Sequence[Prompt],
    scorers: Sequence[PreparedScorer],
    terms: Sequence[Term],
    *,
    chat: bool,
    on_top: Mixture,
    decoding: Decoding,
    side: SidePath,
    bootstrap: Bootstrap,
    progress: Progress,
    plan: LongPlan = LongPlan(),
) -> tuple[LongForm, ...]:
    """Score long texts, and the third answers of conversations, of both models.

    Args:
        prompts: test prompts; the first `plan.prompts` are used.
        chat: the behaviour's: whether prompts pass through the chat template. Conversations always
            do; with a model that has no template there are none.
        decoding: as the other generations are made; here one sample of each prompt.
    """
    some = prompts[: plan.prompts]
    asked, groups = [prompt.text for prompt in some], groups_of(some)
    mixtures: tuple[Mixture, Mixture] = (on_top, [*on_top, (terms, 1.0)])
    writer = _Writer(base, replace(decoding, samples=1), side, progress, plan)

    def judged(
        kind: Literal["long", "three_turns"],
        by: Sequence[PreparedScorer],
        said: Sequence[str],
        tokens: int,
        arms: Sequence[Arm],
    ) -> LongForm:
        before, after = arms
        scored = [
            Scored(
                scorer,
                score_grid(scorer, said, before.texts),
                score_grid(scorer, said, after.texts),
                groups,
            )
            for scorer in by
        ]
        return LongForm(
            kind=kind,
            prompts=len(asked),
            max_new_tokens=tokens,
            effects=tuple(one.effect(bootstrap) for one in scored),
            base=quality_of(before),
            edited=quality_of(after),
        )

    long = [writer.long(asked, mixture, chat=chat) for mixture in mixtures]
    found = [judged("long", scorers, asked, plan.long_tokens, long)]
    if base.has_chat_template:
        third = [writer.third_answers(asked, mixture) for mixture in mixtures]
        said = FOLLOW_UPS[-1:] * len(asked)
        # One that looks up what a test prompt asks for knows nothing of an answer to a follow-up.
        by = [scorer for scorer in scorers if not scorer.info.exact]
        found.append(judged("three_turns", by, said, plan.turn_tokens, third))
    return tuple(found)


class _Writer:
    """Generates, and tells how much of all is done."""

    def __init__(
        self,
        base: BaseModel,
        decoding: Decoding,
        side: SidePath,
        progress: Progress,
        plan: LongPlan,
    ) -> None:
        turns = len(FOLLOW_UPS) + 1 if base.has_chat_template else 0
        self._base = base
        self._decoding = decoding
        self._side = side
        self._progress = progress
        self._plan = plan
        self._total = 2 * (plan.long_tokens + turns * plan.turn_tokens)
        self._done = 0

    def long(self, asked: Sequence[str], mixture: Mixture, *, chat: bool) -> Arm:
        encoded = [encode_prompt(self._base, text, chat=chat) for text in asked]
        return self._generate(encoded, mixture, self._plan.long_tokens)

    def third_answers(self, asked: Sequence[str], mixture: Mixture) -> Arm:
        """Each model talks with its own earlier answers before it."""
        talks = [[("user", text)] for text in asked]
        for follow_up in FOLLOW_UPS:
            arm = self._answers(talks, mixture)
            for talk, (answer,) in zip(talks, arm.texts, strict=True):
                talk += [("assistant", answer), ("user", follow_up)]
        return self._answers(talks, mixture)

    def _answers(self, talks: Sequence[Sequence[tuple[str, str]]], mixture: Mixture) -> Arm:
        encoded = [encode_prompt(self._base, talk, chat=True) for talk in talks]
        return self._generate(encoded, mixture, self._plan.turn_tokens)

    def _generate(self, encoded: Sequence[Sequence[int]], mixture: Mixture, tokens: int) -> Arm:
        arm = generate_arm(
            self._base,
            encoded,
            mixture,
            replace(self._decoding, max_new_tokens=tokens),
            side=self._side,
            progress=lambda share: self._progress((self._done + tokens * share) / self._total),
        )
        self._done += tokens
        return arm
