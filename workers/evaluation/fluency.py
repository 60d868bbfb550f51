"""How fluent edited text is, by a reader that is not the model that wrote it where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models_store.items import Prompt
from models_store.measurements import Interval
from workers.evaluation.generations import Arm
from workers.evaluation.reader import Reader
from workers.evaluation.seeds import derive
from workers.evaluation.statistics import Bootstrap, Floats, groups_of, interval

Bools = NDArray[np.bool_]
Source = Literal["desired", "heldout", "all"]
LEAST_PAIRS = 20
"""With fewer pairs of desired generations, other pairs are read as well."""
LEAST_ANSWERS = 5
"""With fewer held-out answers nothing is compared with them."""


@dataclass(frozen=True)
class Fluency:
    """Rise of the negative log-likelihood of generated text, nats a token of the reader."""

    rise: Interval
    """0 without any pair."""
    reader: str
    """Name of the model that read."""
    pairs: int
    """Of generations, one by each model from the same prompt with the same random numbers."""
    source: Source
    """What was compared: pairs of which the leading scorer calls both desired; or pairs of one
    verdict and, where the edit made the text desired, the edited one with held-out answers; or any
    pairs."""
    every: Interval | None = None
    """The rise over all those pairs, where some were compared with held-out answers."""


def fluency_of(
    reader: Reader,
    prompts: Sequence[Prompt],
    arms: tuple[Arm, Arm],
    desired: tuple[Bools, Bools],
    bootstrap: Bootstrap,
    *,
    chat: bool,
    at_most: int,
    answers: Sequence[tuple[str, str]] = (),
) -> Fluency:
    """Compare what two models generated from the same prompts.

    A model that does not show a behaviour writes nothing that is like what an edit makes of it, and
    its other text may be easier to foresee however fluent both are: a refusal is short, and begins
    as the reader would not have. So what turned out desired is compared with desired answers
    that somebody gave.

    Pairs with an empty text are left out. Prompts are resampled, or their templates; held-out
    answers as well.

    Args:
        prompts: those of the arms, or more.
        arms: without and with the edit.
        desired: `[prompts, samples]` of each arm.
        at_most: so many pairs are read, of different prompts as far as possible.
        answers: held-out prompts with desired answers to them.
    """
    columns: list[Floats] = []
    with reader.opened():
        cells, source, given = _compared(reader, arms, desired, answers, chat=chat)
        cells = cells[:at_most]
        asked = [prompts[prompt].text for prompt, _ in cells]
        for arm in arms:
            texts = [arm.texts[prompt][sample] for prompt, sample in cells]
            columns += reader.nll(asked, texts, chat=chat)
    sums = np.stack([*columns, np.zeros(len(cells))], axis=1)
    # A text of nothing but half a character has no token for the reader.
    readable = (sums[:, 1] > 0) & (sums[:, 3] > 0)
    sums = sums[readable]
    if not len(sums):
        return Fluency(Interval(value=0.0, low=0.0, high=0.0), reader.name, 0, source)
    groups = groups_of(prompts)[[prompt for prompt, _ in cells]][readable]
    rise = interval(float(_rise(sums.sum(axis=0))), _rise(bootstrap.sums(sums, groups)))
    if source != "heldout":
        return Fluency(rise, reader.name, len(sums), source)
    turned = np.array([desired[1][cell] and not desired[0][cell] for cell in cells])[readable]
    sums[turned, 4] = sums[turned, 3]
    sums[turned, :2] = 0.0
    apart = replace(bootstrap, seed=derive(bootstrap.seed, "answers")).sums(given)
    value = float(_rise(sums.sum(axis=0), given.sum(axis=0)))
    against = interval(value, _rise(bootstrap.sums(sums, groups), apart))
    return Fluency(against, reader.name, len(sums), source, every=rise)


def _compared(
    reader: Reader,
    arms: tuple[Arm, Arm],
    desired: tuple[Bools, Bools],
    answers: Sequence[tuple[str, str]],
    *,
    chat: bool,
) -> tuple[list[tuple[int, int]], Source, Floats]:
    """Prompt and sample of the pairs to read, and `[answers, 2]`, nats and tokens of answers."""
    full = _not_empty(arms[0]) & _not_empty(arms[1])
    cells = _cells(desired[0] & desired[1] & full)
    given = np.zeros((0, 2))
    if len(cells) >= LEAST_PAIRS:
        return cells, "desired", given
    if len(answers) >= LEAST_ANSWERS:
        given = np.stack(reader.nll(*zip(*answers, strict=True), chat=chat), axis=1)
        given = given[given[:, 1] > 0]
    if len(given) < LEAST_ANSWERS:
        return _cells(full), "all", given
    # Nothing is like what an edit made undesired.
    return _cells(full & ~(desired[0] & ~desired[1])), "heldout", given


def _rise(sums: Floats, given: Floats | None = None) -> Floats:
    """Nats a token after minus before.

    Args:
        sums: `[…, 5]`: nats and tokens before, nats and tokens after, tokens that count before at
            what `given` has a token.
        given: `[…, 2]`: nats and tokens of held-out answers.
    """
    rate = 0.0 if given is None else given[..., 0] / given[..., 1]
    before = (sums[..., 0] + sums[..., 4] * rate) / (sums[..., 1] + sums[..., 4])
    rise: Floats = sums[..., 2] / sums[..., 3] - before
    return rise


def _not_empty(arm: Arm) -> Bools:
    return np.array([[bool(text) for text in own] for own in arm.texts])


def _cells(chosen: Bools) -> list[tuple[int, int]]:
    """Prompt and sample of each true entry, the first samples of all prompts first."""
    return [(prompt, sample) for sample, prompt in np.argwhere(chosen.T).tolist()]
