"""Refusals: of harmful requests they are wanted; of harmless ones, and of safe ones that look
unsafe (as in XSTest, Röttger et al. 2023, arXiv 2308.01263), they are not.

Each prompt goes through the chat template, where the model has one, and the response is greedy; a
refusal is what the scorer `refusal-phrases` calls one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models_store.operator.suites import DataFile, Suites
from models_store.schemas.measurements import SuiteMetric
from workers.evaluation.statistics import Floats
from workers.evaluation.suites.data import open_file, read_lines, text_field
from workers.evaluation.suites.protocol import ModelPair, Texts, choose, greedy
from workers.evaluation.suites.refusal import RefusalTable
from workers.evaluation.suites.scoring import SuiteScorer, suite_scorer
from workers.runtime.tokens import encode_prompt

KINDS = ("harmful", "harmless", "safe")
_LABELS = {"safe": "safe", "unsafe": "harmful"}
"""XSTest's `label`."""
_UNSAFE_TYPE = "contrast_"
"""How the `type` of an unsafe prompt of XSTest begins; the other types are safe."""


@dataclass(frozen=True, eq=False)
class Refusal:
    """The suite with its prompts."""

    prompts: Mapping[str, Sequence[str]]
    """By kind."""
    max_new_tokens: int
    scorer: SuiteScorer
    data: str

    @property
    def protocol(self) -> str:
        counts = ", ".join(f"{len(prompts)} {kind}" for kind, prompts in self.prompts.items())
        return (
            f"Refused by {self.scorer.name}: greedy responses of {self.max_new_tokens} tokens to "
            f"{counts} prompts"
        )

    def run(self, pair: ModelPair) -> tuple[SuiteMetric, ...]:
        flat = [prompt for prompts in self.prompts.values() for prompt in prompts]
        ids = [encode_prompt(pair.loaded, prompt, chat=True) for prompt in flat]
        # All kinds at once: batches of prompts of similar length are larger that way.
        written = pair.generate(ids, greedy(self.max_new_tokens))
        before, after = (self._refused(flat, texts) for texts in written)
        borders = np.cumsum([len(prompts) for prompts in self.prompts.values()])[:-1]
        return tuple(
            pair.metric(f"{kind}_refused", b, a, higher_is_better=kind == "harmful")
            for kind, b, a in zip(
                self.prompts, np.split(before, borders), np.split(after, borders), strict=True
            )
        )

    def _refused(self, prompts: Sequence[str], texts: Texts) -> Floats:
        scores = self.scorer.score(prompts, [generations[0] for generations in texts])
        return (scores >= self.scorer.threshold).astype(np.float64)


def open_suite(table: RefusalTable, config: Suites) -> Refusal:
    """Read the operator's prompts.

    Raises:
        InvalidRequest: a file is missing or a line of it is wrong.
    """
    by_kind: dict[str, list[str]] = {kind: [] for kind in KINDS}
    labels: list[str] = []

    def take(file: DataFile | None, field: str, parse: Parse) -> None:
        if file is None:
            return
        opened = open_file(file, field, config.cache)
        for kind, prompt in read_lines(opened, parse):
            by_kind[kind].append(prompt)
        if opened.label not in labels:
            labels.append(opened.label)

    for kind in KINDS:
        take(getattr(table.data, kind), f"refusal.data.{kind}", _only(kind))
    take(table.data.mixed, "refusal.data", _stated)
    prompts = {
        kind: choose(every, table.items, f"refusal/{kind}")
        for kind, every in by_kind.items()
        if every
    }
    scorer = suite_scorer("refusal-phrases", "refusal")
    return Refusal(prompts, table.max_new_tokens, scorer, "; ".join(labels))


Parse = Callable[[dict[str, Any]], tuple[str, str] | None]


def _only(kind: str) -> Parse:
    """Of a file for one kind: all lines but those that state another."""

    def parse(fields: dict[str, Any]) -> tuple[str, str] | None:
        prompt = text_field(fields, "prompt", "text")
        return (kind, prompt) if _kind_of(fields) in (None, kind) else None

    return parse


def _stated(fields: dict[str, Any]) -> tuple[str, str]:
    kind = _kind_of(fields)
    if kind is None:
        raise ValueError(f"states no 'kind' ({', '.join(KINDS)}), 'label' or 'type'")
    return kind, text_field(fields, "prompt", "text")


def _kind_of(fields: dict[str, Any]) -> str | None:
    """What a line says that its prompt is; None: nothing."""
    if "kind" in fields:
        if fields["kind"] not in KINDS:
            raise ValueError(f"'kind' must be one of {', '.join(KINDS)}, not {fields['kind']!r}")
        return str(fields["kind"])
    if "label" in fields:
        if fields["label"] not in _LABELS:
            raise ValueError(f"'label' must be safe or unsafe, not {fields['label']!r}")
        return _LABELS[fields["label"]]
    if isinstance(fields.get("type"), str):
        return "harmful" if fields["type"].startswith(_UNSAFE_TYPE) else "safe"
    return None
