"""The scorers that suites use: those that rate a text by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models_store.errors import InvalidRequest
from models_store.operator.scorers import OperatorScorer
from models_store.operator.suites import usable_scorers
from workers.evaluation.scorers.prepare import make_scorer
from workers.evaluation.scorers.protocol import Scorer, Training
from workers.evaluation.statistics import Floats


@dataclass(frozen=True, eq=False)
class SuiteScorer:
    """A scorer as a suite uses it."""

    name: str
    scorer: Scorer
    threshold: float
    """A text whose score reaches it counts."""

    def score(self, prompts: Sequence[str], texts: Sequence[str]) -> Floats:
        """How much of what it measures is in each text, `[texts]` in [0, 1]."""
        return np.clip(self.scorer.score(prompts, texts), 0.0, 1.0).astype(np.float64)


def suite_scorer(name: str, field: str, operator: Sequence[OperatorScorer] = ()) -> SuiteScorer:
    """A scorer by name.

    Args:
        field: where it was named, for the error.
        operator: the scorers that the operator brings.

    Raises:
        InvalidRequest: no scorer is called so, or it needs a behaviour's texts or question.
    """
    usable = usable_scorers(operator)
    if name not in usable:
        raise InvalidRequest(f"{field}: {name!r} is none of {', '.join(usable)}")
    nothing = Training(texts=(), labels=(), seed=0)
    return SuiteScorer(name, make_scorer(name, nothing, operator), usable[name].threshold)
