"""Rows of the quality table with figures that a test can check by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.quality.rows import RULES, ArmRow, Harm, Options, ScorerValues, Sheet

OPTIONS = Options(prompts=4, samples=1, effort="quick", texts=None, rules=RULES)
HARM = Harm(kl=0.05, perplexity_ratio=1.05, domain=0.1, fluency=0.1, distinct2_ratio=1.0)


def sheet(rates: dict[str, float], scorers: Sequence[str] = ("tfidf", "vader")) -> Sheet:
    """One set of prompts, the same rate by each scorer."""
    values = tuple(rates.values())
    scores = {name: ScorerValues(rate=values, score=values) for name in scorers}
    return Sheet(prompts=tuple(rates), scorers=scores)


def row(arm: str, rates: dict[str, float] | None = None, **fields: Any) -> ArmRow:
    """A row of the set `test`."""
    given = {
        "base": "tiny",
        "behavior": "toxicity",
        "seed": 0,
        "label": arm,
        "options": OPTIONS,
        "harm": HARM,
        "sheets": {} if rates is None else {"test": sheet(rates)},
    }
    return ArmRow(arm=arm, **{**given, **fields})


def rates(*values: float) -> dict[str, float]:
    return {f"p{number}": value for number, value in enumerate(values)}
