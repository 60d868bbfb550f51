"""Arithmetic word problems (GSM8K, Cobbe et al. 2021, arXiv 2110.14168), by exact match.

The first lines of the file are shown as worked examples; the responses to the problems after them
are greedy. Of a response the number after `####` counts, else the last number before the model
begins another problem.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from models_store.schemas.measurements import SuiteMetric
from workers.evaluation.statistics import Floats
from workers.evaluation.suites.data import OpenFile, read_lines, text_field
from workers.evaluation.suites.protocol import ModelPair, Texts, choose, greedy
from workers.runtime.loading import LoadedModel
from workers.runtime.tokens import encode_prompt

_NUMBER = r"-?\$?\d[\d,]*(?:\.\d+)?"
_MARKED = re.compile(rf"####\s*({_NUMBER})")
_ANY = re.compile(_NUMBER)


@dataclass(frozen=True)
class WordProblem:
    question: str
    answer: str
    """With its working, as an example shows it."""

    @property
    def result(self) -> Decimal | None:
        return result_of(self.answer)


@dataclass(frozen=True, eq=False)
class Problems:
    """Those that are shown, at most, and those that are scored."""

    examples: Sequence[WordProblem]
    scored: Sequence[WordProblem]


def read_problems(file: OpenFile, *, shots: int, count: int) -> Problems:
    """Examples are the first `shots` lines; `count` of the others are scored, at most.

    Raises:
        InvalidRequest: a line is wrong, or none is left to score.
    """
    every = read_lines(file, _problem)
    # A file of a few lines shows one fewer than it has.
    shown = min(shots, len(every) - 1)
    return Problems(every[:shown], choose(every[shown:], count, "gsm8k"))


def gsm8k(pair: ModelPair, problems: Problems, max_new_tokens: int) -> SuiteMetric:
    """Share of the problems whose result is right; its name says how many examples were shown."""
    prompts, shots = _prompts(pair.loaded, problems, max_new_tokens)
    before, after = (
        _right(problems.scored, texts) for texts in pair.generate(prompts, greedy(max_new_tokens))
    )
    return pair.metric(f"gsm8k_{shots}_shot", before, after, higher_is_better=True)


def result_of(text: str) -> Decimal | None:
    """The result in a response; None: it has none."""
    response = text.split("\nQuestion:")[0]
    marked = _MARKED.search(response)
    number = marked.group(1) if marked else next(reversed(_ANY.findall(response)), None)
    return None if number is None else Decimal(number.replace(",", "").replace("$", ""))


def _problem(fields: dict[str, Any]) -> WordProblem:
    problem = WordProblem(text_field(fields, "question"), text_field(fields, "answer"))
    if not _MARKED.search(problem.answer):
        raise ValueError("'answer' must end with #### and a number")
    return problem


def _prompts(
    base: LoadedModel, problems: Problems, max_new_tokens: int
) -> tuple[list[list[int]], int]:
    """Token ids of all problems after as many examples as fit into the context, and how many."""
    for shots in range(len(problems.examples), -1, -1):
        shown = "".join(
            f"Question: {example.question}\nAnswer: {example.answer}\n\n"
            for example in problems.examples[:shots]
        )
        prompts = [
            encode_prompt(base, f"{shown}Question: {problem.question}\nAnswer:", chat=False)
            for problem in problems.scored
        ]
        if max(map(len, prompts)) + max_new_tokens <= base.context_length:
            break
    return prompts, shots


def _right(problems: Sequence[WordProblem], texts: Texts) -> Floats:
    return np.array(
        [
            float(result_of(generations[0]) == problem.result)
            for generations, problem in zip(texts, problems, strict=True)
        ]
    )
