"""Toxicity of continuations, by the protocol of RealToxicityPrompts (Gehman et al. 2020,
arXiv 2009.11462).

Each prompt is continued by 20 tokens, of which only these are scored: once greedily, for the share
of toxic continuations, and, for fewer prompts, 25 times at temperature 0.9 and top-p 0.9, for the
expected maximum of a prompt's scores and the share of prompts with any toxic continuation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models_store.operator.suites import Suites
from models_store.schemas.measurements import SuiteMetric
from workers import progress
from workers.evaluation.effect.generations import DecodingSettings
from workers.evaluation.seeds import derive
from workers.evaluation.statistics import Floats
from workers.evaluation.suites.data import OpenFile, open_file, read_lines, text_field
from workers.evaluation.suites.protocol import ModelPair, Texts, choose, greedy
from workers.evaluation.suites.scoring import SuiteScorer, suite_scorer
from workers.evaluation.suites.toxicity import ToxicityTable
from workers.runtime.tokens import encode_prompt

NEW_TOKENS = 20
TEMPERATURE = 0.9
TOP_P = 0.9


@dataclass(frozen=True, eq=False)
class Toxicity:
    """The suite with its prompts."""

    prompts: Sequence[str]
    table: ToxicityTable
    scorer: SuiteScorer
    data: str

    @property
    def protocol(self) -> str:
        sampled = (
            f"; {self.table.samples} samples at temperature {TEMPERATURE} and top-p {TOP_P} of "
            f"{len(self._sampled)} of them"
            if self._sampled
            else ""
        )
        return (
            f"RealToxicityPrompts: {NEW_TOKENS} tokens after {len(self.prompts)} prompts, greedy"
            f"{sampled}; toxic from {self.scorer.threshold:g} by {self.scorer.name}"
        )

    @property
    def _sampled(self) -> Sequence[str]:
        return self.prompts[: self.table.sampled_items]

    def run(self, pair: ModelPair) -> tuple[SuiteMetric, ...]:
        once, often = len(self.prompts), len(self._sampled) * self.table.samples
        with progress.step("greedy", once / (once + often)):
            metrics = self._greedy(pair)
        if self._sampled:
            with progress.step("sampled"):
                metrics += self._maximum(pair)
        return metrics

    def _greedy(self, pair: ModelPair) -> tuple[SuiteMetric, ...]:
        before, after = self._scores(pair, self.prompts, greedy(NEW_TOKENS))
        limit = self.scorer.threshold
        rates = ((scores >= limit).mean(axis=1) for scores in (before, after))
        return (
            pair.metric("toxic", *rates, higher_is_better=False),
            pair.metric(
                "toxicity", before.mean(axis=1), after.mean(axis=1), higher_is_better=False
            ),
        )

    def _maximum(self, pair: ModelPair) -> tuple[SuiteMetric, ...]:
        decoding = DecodingSettings(
            max_new_tokens=NEW_TOKENS,
            seed=derive(pair.seed, "suite/toxicity"),
            samples=self.table.samples,
            temperature=TEMPERATURE,
            top_k=0,
            top_p=TOP_P,
        )
        before, after = (
            scores.max(axis=1) for scores in self._scores(pair, self._sampled, decoding)
        )
        limit = self.scorer.threshold
        any_toxic = ((scores >= limit).astype(float) for scores in (before, after))
        return (
            pair.metric("expected_maximum_toxicity", before, after, higher_is_better=False),
            pair.metric("any_toxic", *any_toxic, higher_is_better=False),
        )

    def _scores(
        self, pair: ModelPair, prompts: Sequence[str], decoding: DecodingSettings
    ) -> tuple[Floats, Floats]:
        """`[prompts, samples]` without and with the edit."""
        ids = [encode_prompt(pair.loaded, prompt, chat=False) for prompt in prompts]
        before, after = pair.generate(ids, decoding)
        return self._grid(prompts, before), self._grid(prompts, after)

    def _grid(self, prompts: Sequence[str], texts: Texts) -> Floats:
        samples = len(texts[0])
        repeated = [prompt for prompt in prompts for _ in range(samples)]
        flat = [text for generations in texts for text in generations]
        return self.scorer.score(repeated, flat).reshape(len(prompts), samples)


def open_suite(table: ToxicityTable, config: Suites) -> Toxicity:
    """Read the operator's prompts.

    Raises:
        InvalidRequest: the file is missing or a line of it is wrong, or the scorer is no use here.
    """
    file = open_file(table.data, "toxicity.data", config.cache)
    prompts = choose(read_prompts(file), table.items, "toxicity")
    return Toxicity(
        prompts, table, suite_scorer(table.scorer, "toxicity.scorer", config.scorers), file.label
    )


def read_prompts(file: OpenFile) -> list[str]:
    """Prompts, a line each: `{"text": …}`, `{"prompt": …}`, or the data set's own `{"prompt":
    {"text": …}, …}`.

    Raises:
        InvalidRequest: a line is wrong.
    """
    return read_lines(file, _prompt)


def _prompt(fields: dict[str, Any]) -> str:
    if isinstance(fields.get("prompt"), dict):
        return text_field(fields["prompt"], "text")
    return text_field(fields, "prompt", "text")
