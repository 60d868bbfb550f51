"""How fluent edited text is, by a reader that is not the model that wrote it where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models_store.items import Prompt
from models_store.measurements import Interval
from workers.evaluation.generations import Arm
from workers.evaluation.reader import Reader
from workers.evaluation.statistics import Bootstrap, Floats, groups_of, interval

Bools = NDArray[np.bool_]
LEAST_PAIRS = 20
"""With fewer pairs of desired generations, all generations are read instead."""


@dataclass(frozen=True)
class Fluency:
    """Rise of the negative log-likelihood of generated text, nats a token of the reader."""

    rise: Interval
    """0 without any pair."""
    reader: str
    """Name of the model that read."""
    pairs: int
    """Of generations, one by each model from the same prompt with the same random numbers."""
    source: Literal["desired", "all"]
    """Which pairs were read: those of which the leading scorer calls both desired, or any."""


def fluency_of(
    reader: Reader,
    prompts: Sequence[Prompt],
    arms: tuple[Arm, Arm],
    desired: tuple[Bools, Bools],
    bootstrap: Bootstrap,
    *,
    chat: bool,
    at_most: int,
) -> Fluency:
    """Compare what two models generated from the same prompts.

    Pairs with an empty text are left out. Prompts are resampled, or their templates.

    Args:
        prompts: those of the arms, or more.
        arms: without and with the edit.
        desired: `[prompts, samples]` of each arm.
        at_most: so many pairs are read, of different prompts as far as possible.
    """
    full = _not_empty(arms[0]) & _not_empty(arms[1])
    cells = _cells(desired[0] & desired[1] & full)
    source: Literal["desired", "all"] = "desired"
    if len(cells) < LEAST_PAIRS:
        cells, source = _cells(full), "all"
    cells = cells[:at_most]
    asked = [prompts[prompt].text for prompt, _ in cells]
    columns: list[Floats] = []
    with reader.opened():
        for arm in arms:
            texts = [arm.texts[prompt][sample] for prompt, sample in cells]
            columns += reader.nll(asked, texts, chat=chat)
    sums = np.stack(columns, axis=1)
    # A text of nothing but half a character has no token for the reader.
    readable = (sums[:, 1] > 0) & (sums[:, 3] > 0)
    sums = sums[readable]
    if not len(sums):
        return Fluency(Interval(value=0.0, low=0.0, high=0.0), reader.name, 0, source)
    groups = groups_of(prompts)[[prompt for prompt, _ in cells]][readable]
    value = float(_rise(sums.sum(axis=0, keepdims=True))[0])
    rise = interval(value, _rise(bootstrap.sums(sums, groups)))
    return Fluency(rise, reader.name, len(sums), source)


def _rise(sums: Floats) -> Floats:
    """Of `[…, 4]`, nats and tokens before and after: nats a token after minus before."""
    rise: Floats = sums[:, 2] / sums[:, 3] - sums[:, 0] / sums[:, 1]
    return rise


def _not_empty(arm: Arm) -> Bools:
    return np.array([[bool(text) for text in own] for own in arm.texts])


def _cells(chosen: Bools) -> list[tuple[int, int]]:
    """Prompt and sample of each true entry, the first samples of all prompts first."""
    return [(prompt, sample) for sample, prompt in np.argwhere(chosen.T).tolist()]
