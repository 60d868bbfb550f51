"""Profanity and offence by the linear classifier of `alt-profanity-check`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from profanity_check import predict_prob

from workers.evaluation.scorers.protocol import Training
from workers.evaluation.statistics import Floats


class Profanity:
    """The classifier's probability."""

    def score(self, prompts: Sequence[str], texts: Sequence[str]) -> Floats:
        return np.asarray(predict_prob(list(texts)), dtype=np.float64)


def make(training: Training) -> Profanity:
    return Profanity()
