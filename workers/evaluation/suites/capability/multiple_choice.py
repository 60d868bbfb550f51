"""Multiple choice by likelihood: the choice whose text is likeliest for its length is taken.

    score(choice) = log p(" " + choice | "Question: …\\nAnswer:") / bytes of the choice

which is what lm-eval calls `acc_norm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models_store.schemas.items import MAX_TEXT_CHARACTERS, CompletionItem
from models_store.schemas.measurements import SuiteMetric
from workers import progress
from workers.evaluation.statistics import Floats
from workers.evaluation.suites.data import OpenFile, read_lines, text_field
from workers.evaluation.suites.protocol import ModelPair, choose
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.likelihood import negative_log_likelihood
from workers.runtime.tokens import Encoded, encode

MAX_CHOICE_TOKENS = 256
_LONGEST = MAX_TEXT_CHARACTERS - 100


@dataclass(frozen=True)
class Question:
    question: str
    choices: tuple[str, ...]
    answer: int
    """Index of the right choice."""


def read_questions(file: OpenFile, count: int) -> list[Question]:
    """At most `count` questions of a file.

    Raises:
        InvalidRequest: a line is wrong.
    """
    return choose(read_lines(file, _question), count, "multiple_choice")


def multiple_choice(pair: ModelPair, questions: Sequence[Question]) -> SuiteMetric:
    """Share of the questions of which the right choice is taken."""
    texts = encode(
        pair.loaded,
        [
            CompletionItem(
                prompt=f"Question: {question.question}\nAnswer:", completion=f" {choice}"
            )
            for question in questions
            for choice in question.choices
        ],
        max_tokens=MAX_CHOICE_TOKENS,
        chat=False,
    )
    before, after = (_right(model, questions, texts) for model in progress.track(pair.models))
    return pair.metric("multiple_choice", before, after, higher_is_better=True)


def _right(model: EditedModel, questions: Sequence[Question], texts: Sequence[Encoded]) -> Floats:
    reading = model.reading(texts)
    nats = iter((negative_log_likelihood(model.loaded, reading) * reading.counts).tolist())
    right = []
    for question in questions:
        per_byte = [next(nats) / len(choice.encode()) for choice in question.choices]
        right.append(float(int(np.argmin(per_byte)) == question.answer))
    return np.array(right)


def _question(fields: dict[str, Any]) -> Question:
    question = text_field(fields, "question")
    choices = fields.get("choices")
    if not isinstance(choices, list) or len(choices) < 2:
        raise ValueError("'choices' must be a list of two texts or more")
    if not all(isinstance(choice, str) and choice.strip() for choice in choices):
        raise ValueError("'choices' must be texts that are not empty")
    if len(question) > _LONGEST or any(len(choice) > _LONGEST for choice in choices):
        raise ValueError(f"a text is longer than {_LONGEST} characters")
    answer = fields.get("answer")
    if isinstance(answer, str) and answer in choices:
        answer = choices.index(answer)
    if type(answer) is not int or not 0 <= answer < len(choices):
        raise ValueError("'answer' must be one of the choices, or its number from 0")
    return Question(question, tuple(choices), answer)
