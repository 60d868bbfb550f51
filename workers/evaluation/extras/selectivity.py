"""How the likelihood of the two sides' held-out texts moved.

It is told for what it is worth: it does not rank methods as generation does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from models_store.errors import EditFailed
from models_store.schemas.measurements import Selectivity
from workers.evaluation.damage.domain import LikelihoodMeter
from workers.evaluation.seeds import derive
from workers.evaluation.statistics import Bootstrap, Floats, interval
from workers.surgery.terms import Term


def selectivity(
    undesired: LikelihoodMeter,
    desired: LikelihoodMeter,
    terms: Sequence[Term],
    bootstrap: Bootstrap,
) -> Selectivity | None:
    """Rise of the negative log-likelihood of each side, nats a token; texts are resampled.

    Args:
        terms: the edit at strength 1.

    Returns:
        None where the edited model gives no numbers any more.
    """
    try:
        sides = [
            np.stack([meter.rises(terms) * meter.counts, meter.counts], axis=1)
            for meter in (undesired, desired)
        ]
    except EditFailed:
        return None
    # Two samples of different texts: each is resampled by itself.
    seeds = [derive(bootstrap.seed, name) for name in ("undesired", "desired")]
    draws = [
        _ratio(replace(bootstrap, seed=seed).sums(columns))
        for seed, columns in zip(seeds, sides, strict=True)
    ]
    values = [float(_ratio(columns.sum(axis=0, keepdims=True))[0]) for columns in sides]
    return Selectivity(
        undesired=interval(values[0], draws[0], len(sides[0])),
        desired=interval(values[1], draws[1], len(sides[1])),
        difference=interval(values[0] - values[1], draws[0] - draws[1], min(map(len, sides))),
    )


def _ratio(sums: Floats) -> Floats:
    """Nats a token, `[draws]`, of sums `[draws, 2]`."""
    ratio: Floats = sums[:, 0] / sums[:, 1]
    return ratio
