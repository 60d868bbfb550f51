"""Longer generations than those that are scored otherwise: one long text, and a third answer.

An edit that looks good over a few words may run into loops over pages, or wear off as people talk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from models_store.schemas.items import Prompt
from models_store.schemas.measurements import LongForm
from workers import progress
from workers.evaluation.damage.quality import quality_of
from workers.evaluation.effect.effect import scored_arms
from workers.evaluation.effect.generations import Arm, DecodingSettings, generate_arm
from workers.evaluation.scorers.prepare import PreparedScorer
from workers.evaluation.statistics import Bootstrap, groups_of
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.tokens import encode_prompt
from workers.surgery.terms import Term

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
    model: EditedModel,
    prompts: Sequence[Prompt],
    scorers: Sequence[PreparedScorer],
    terms: Sequence[Term],
    *,
    chat: bool,
    decoding: DecodingSettings,
    bootstrap: Bootstrap,
    plan: LongPlan = LongPlan(),
) -> tuple[LongForm, ...]:
    """Score long texts, and the third answers of conversations, of both models.

    Args:
        model: without the edit.
        prompts: test prompts; the first `plan.prompts` are used.
        chat: the behaviour's: whether prompts pass through the chat template. Conversations always
            do; with a model that has no template there are none.
        decoding: as the other generations are made; here one sample of each prompt.
    """
    some = prompts[: plan.prompts]
    prompt_texts, groups = [prompt.text for prompt in some], groups_of(some)
    models = (model, model.plus(terms))
    has_turns = model.loaded.has_chat_template
    turns = (len(FOLLOW_UPS) + 1) * plan.turn_tokens if has_turns else 0
    progress.plan({"long": plan.long_tokens, "turns": turns})

    def judged(
        kind: Literal["long", "three_turns"],
        by: Sequence[PreparedScorer],
        messages: Sequence[str],
        tokens: int,
        arms: Sequence[Arm],
    ) -> LongForm:
        before, after = arms
        scored = scored_arms(by, messages, before, after, groups)
        return LongForm(
            kind=kind,
            prompts=len(prompt_texts),
            max_new_tokens=tokens,
            effects=tuple(each.effect(bootstrap) for each in scored),
            base=quality_of(before),
            edited=quality_of(after),
        )

    with progress.step("long"):
        whole = replace(decoding, max_new_tokens=plan.long_tokens, samples=1)
        encoded = [encode_prompt(model.loaded, text, chat=chat) for text in prompt_texts]
        long = [generate_arm(model, encoded, whole) for model in progress.track(models)]
    results = [judged("long", scorers, prompt_texts, plan.long_tokens, long)]
    if has_turns:
        with progress.step("turns"):
            short = replace(decoding, max_new_tokens=plan.turn_tokens, samples=1)
            third = [_third_answers(model, prompt_texts, short) for model in progress.track(models)]
        messages = FOLLOW_UPS[-1:] * len(prompt_texts)
        # One that looks up what a test prompt asks for knows nothing of an answer to a follow-up.
        by = [scorer for scorer in scorers if not scorer.info.exact]
        results.append(judged("three_turns", by, messages, plan.turn_tokens, third))
    return tuple(results)


def _third_answers(
    model: EditedModel, prompt_texts: Sequence[str], decoding: DecodingSettings
) -> Arm:
    """A model talks with its own earlier answers before it."""
    talks = [[("user", text)] for text in prompt_texts]

    def answers() -> Arm:
        encoded = [encode_prompt(model.loaded, talk, chat=True) for talk in talks]
        return generate_arm(model, encoded, decoding)

    for follow_up in progress.track(FOLLOW_UPS, of=len(FOLLOW_UPS) + 1):
        for talk, (answer,) in zip(talks, answers().texts, strict=True):
            talk += [("assistant", answer), ("user", follow_up)]
    return answers()
