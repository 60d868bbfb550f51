"""What the model could do before the edit, as far as the operator has data for it: perplexity of a
text, GSM8K, multiple choice.

This is a quick look on few items. For published benchmarks point lm-eval
(https://github.com/EleutherAI/lm-evaluation-harness) at `/v1/completions` of a running server, with
`--model local-completions` and the variant as its `model`; it then measures the variant as it is
served, the log-probabilities of given answers among it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from models_store.operator.suites import Suites
from models_store.schemas.measurements import SuiteMetric
from workers import progress
from workers.evaluation.suites.capability import CapabilityTable
from workers.evaluation.suites.capability.gsm8k import Problems, gsm8k, read_problems
from workers.evaluation.suites.capability.multiple_choice import (
    Question,
    multiple_choice,
    read_questions,
)
from workers.evaluation.suites.capability.perplexity import perplexity
from workers.evaluation.suites.data import OpenFile, open_file, read_text
from workers.evaluation.suites.protocol import ModelPair


@dataclass(frozen=True, eq=False)
class Capability:
    """The suite with those of its parts that there are data for."""

    table: CapabilityTable
    text: str | None
    problems: Problems | None
    questions: Sequence[Question] | None
    data: str

    @property
    def protocol(self) -> str:
        parts = []
        if self.text is not None:
            parts.append(
                f"perplexity over at most {self.table.windows} windows of "
                f"{self.table.window_tokens} tokens"
            )
        if self.problems is not None:
            parts.append(f"{len(self.problems.scored)} problems of GSM8K, greedy, exact match")
        if self.questions is not None:
            parts.append(f"{len(self.questions)} choices by log-likelihood a byte")
        return "; ".join(parts)

    def run(self, pair: ModelPair) -> tuple[SuiteMetric, ...]:
        parts: list[Callable[[], SuiteMetric]] = []
        if (text := self.text) is not None:
            parts.append(
                lambda: perplexity(
                    pair,
                    text,
                    windows=self.table.windows,
                    window_tokens=self.table.window_tokens,
                )
            )
        if (problems := self.problems) is not None:
            parts.append(lambda: gsm8k(pair, problems, self.table.max_new_tokens))
        if (questions := self.questions) is not None:
            parts.append(lambda: multiple_choice(pair, questions))
        return tuple(part() for part in progress.track(parts))


def open_suite(table: CapabilityTable, config: Suites) -> Capability:
    """Read the operator's data.

    Raises:
        InvalidRequest: a file is missing or a line of it is wrong.
    """
    data = table.data
    opened: dict[str, OpenFile] = {
        name: open_file(file, f"capability.data.{name}", config.cache)
        for name in ("text", "gsm8k", "multiple_choice")
        if (file := getattr(data, name)) is not None
    }
    return Capability(
        table=table,
        text=read_text(opened["text"]) if "text" in opened else None,
        problems=read_problems(opened["gsm8k"], shots=table.shots, count=table.problems)
        if "gsm8k" in opened
        else None,
        questions=read_questions(opened["multiple_choice"], table.questions)
        if "multiple_choice" in opened
        else None,
        data="; ".join(f"{name}: {file.label}" for name, file in opened.items()),
    )
