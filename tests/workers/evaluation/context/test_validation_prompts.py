"""Prompts to choose an edit on, where a behaviour leaves none for that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models_store.errors import InvalidRequest
from models_store.schemas.behaviors import Behavior
from models_store.schemas.items import Prompt, prompt_of, text_of
from tests.workers.evaluation.contexts import small_context
from tests.workers.evaluation.texts import behavior, sentences
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.context.validation_prompts import validation_prompts
from workers.evaluation.data.splits import beginnings, made_prompts, split_behavior
from workers.runtime.loading import LoadedModel, load_base


@pytest.fixture(scope="module")
def base(pico_folder: Path) -> LoadedModel:
    return load_base(pico_folder, device="cpu", dtype="float32")


def _context(base: LoadedModel, of: Behavior) -> EvaluationContext:
    context = small_context(base, behavior=of, splits=split_behavior(of, seed=0))
    assert context.splits.validate == ()
    return context


def _chosen(context: EvaluationContext) -> set[str]:
    return {prompt.text.casefold() for prompt in validation_prompts(context)}


def _tested(context: EvaluationContext) -> set[str]:
    return {prompt.text.casefold() for prompt in context.splits.test}


def _answers(asked: list[str]) -> dict[str, Any]:
    return {
        side: [
            {"prompt": prompt, "completion": text}
            for prompt, text in zip(asked, sentences(mood, len(asked)), strict=True)
        ]
        for side, mood in (("undesired", "cruel"), ("desired", "kind"))
    }


def _testing(context: EvaluationContext, *prompts: str) -> EvaluationContext:
    """The same with other test prompts."""
    test = tuple(Prompt(text=text) for text in prompts)
    return replace(context, splits=replace(context.splits, test=test))


def test_what_fitted_texts_answer_is_chosen_on_unless_it_nearly_is_tested_on(
    base: LoadedModel,
) -> None:
    asked = [f"What of number {i}?" for i in range(40)]
    context = _context(base, behavior(prompts=["Tell me."], **_answers(asked)))
    answered = {prompt_of(item).casefold() for item in context.splits.fit.items}
    assert _chosen(context) == answered
    first, second, *others = sorted(answered)
    assert _chosen(_testing(context, first.upper(), f"So, {second}")) == set(others)


def test_where_texts_answer_only_what_is_tested_on_they_are_begun(base: LoadedModel) -> None:
    of = behavior(prompts=["Tell me."], **_answers(["Go on."] * 40))
    context = _testing(_context(base, of), "Go on!")
    begun = _chosen(context)
    texts = [text_of(item).casefold() for item in context.splits.fit.items]
    assert begun
    assert all(any(text.startswith(start) for text in texts) for start in begun)


def test_plain_texts_that_begin_with_what_is_tested_on_are_begun_further(base: LoadedModel) -> None:
    texts = {
        "undesired": [f"bad text {text.rsplit(None, 4)[0]}" for text in sentences("cruel", 40)],
        "desired": [f"good text {text.rsplit(None, 4)[0]}" for text in sentences("kind", 40)],
    }
    context = _context(base, behavior(prompts=["bad text", "good text"], **texts))
    fit = context.splits.fit
    assert {prompt.text for prompt in made_prompts(fit)} == _tested(context)
    assert _chosen(context) <= {text_of(item).casefold() for item in fit.items}


def test_texts_that_begin_with_nothing_else_are_refused(base: LoadedModel) -> None:
    context = _context(base, behavior(prompts=["Tell me."], **_answers(["Go on."] * 40)))
    begun = [prompt.text for prompt in beginnings(context.splits.fit)]
    with pytest.raises(InvalidRequest, match="left to choose an edit on") as refused:
        validation_prompts(_testing(context, "Go on.", *begun))
    assert refused.value.errors[0].pointer == "/behavior/prompts"
