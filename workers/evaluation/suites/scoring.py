"""The scorers that suites use: those that need no texts of a behaviour to learn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models_store.errors import InvalidRequest
from models_store.scorers import SCORERS
from workers.evaluation.scorers import profanity, refusal_phrases, vader
from workers.evaluation.scorers.protocol import Scorer, Training
from workers.evaluation.statistics import Floats

_MAKERS: Mapping[str, Callable[[Training], Scorer]] = {
    "profanity": profanity.make,
    "refusal-phrases": refusal_phrases.make,
    "vader": vader.make,
}


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


def suite_scorer(name: str, field: str) -> SuiteScorer:
    """A scorer by name.

    Args:
        field: where it was named, for the error.

    Raises:
        InvalidRequest: no scorer is called so, or it learns from a behaviour's own texts.
    """
    if name not in _MAKERS:
        raise InvalidRequest(
            f"{field}: no scorer that a suite could use is called {name!r}; there are "
            f"{', '.join(_MAKERS)}"
        )
    nothing = Training(texts=(), labels=(), seed=0)
    return SuiteScorer(name, _MAKERS[name](nothing), SCORERS[name].threshold)
