"""How the likelihood of the two sides' held-out texts moved.

It is told for what it is worth: it does not rank methods as generation does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from models_store.schemas.items import Item
from models_store.schemas.measurements import Interval, Selectivity
from workers.evaluation.data.splits import Sides
from workers.evaluation.seeds import derive
from workers.evaluation.statistics import Bootstrap, Floats, interval
from workers.runtime.edited_model import EditedModel
from workers.runtime.tokens import encode
from workers.surgery.terms import Term

MAX_TEXTS = 60
"""Of each side, at most."""
MAX_TOKENS = 100


def selectivity(
    model: EditedModel,
    heldout: Sides,
    terms: Sequence[Term],
    *,
    chat: bool,
    bootstrap: Bootstrap,
) -> Selectivity | None:
    """Rise of the negative log-likelihood of each side, nats a token; texts are resampled.

    Args:
        model: without the edit.
        chat: the behaviour's: pairs pass through the chat template.

    Returns:
        None where a side has no token that counts, or the model gives no numbers any more.
    """
    sides = [
        _rises(model, items[:MAX_TEXTS], terms, chat=chat)
        for items in (heldout.undesired, heldout.desired)
    ]
    if not all(len(columns) and np.isfinite(columns).all() for columns in sides):
        return None
    # Two samples of different texts: each is resampled by itself.
    seeds = [derive(bootstrap.seed, name) for name in ("undesired", "desired")]
    draws = [
        _ratio(replace(bootstrap, seed=seed).sums(columns))
        for seed, columns in zip(seeds, sides, strict=True)
    ]
    values = [float(_ratio(columns.sum(axis=0, keepdims=True))[0]) for columns in sides]
    undesired, desired = (interval(*pair) for pair in zip(values, draws, strict=True))
    difference: Interval = interval(values[0] - values[1], draws[0] - draws[1])
    return Selectivity(undesired=undesired, desired=desired, difference=difference)


def _rises(
    model: EditedModel,
    items: Sequence[Item],
    terms: Sequence[Term],
    *,
    chat: bool,
) -> Floats:
    """Rise in nats and positions of each text, `[texts, 2]`; no rows where nothing counts."""
    texts = [
        text
        for text in encode(model.loaded, items, max_tokens=MAX_TOKENS, chat=chat)
        if any(text.scored[1:])
    ]
    if not texts:
        return np.empty((0, 2))
    divergence = model.plus(terms).divergence(texts, model.reading(texts))
    counts = divergence.positions.astype(np.float64)
    return np.stack([(divergence.edited_nll - divergence.base_nll) * counts, counts], axis=1)


def _ratio(sums: Floats) -> Floats:
    """Nats a token, `[draws]`, of sums `[draws, 2]`."""
    ratio: Floats = sums[:, 0] / sums[:, 1]
    return ratio
