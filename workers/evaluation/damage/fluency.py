"""How fluent edited text is, by a reader that is not the model that wrote it where there is one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models_store.schemas.items import ChatItem, CompletionItem, Item, Prompt, prompt_of, text_of
from models_store.schemas.measurements import FluencySource, Interval
from workers.evaluation.damage.reader import FluencyReader
from workers.evaluation.effect.generations import Arm
from workers.evaluation.seeds import derive
from workers.evaluation.statistics import (
    Bools,
    Bootstrap,
    Floats,
    count_units,
    groups_of,
    interval,
)

_Read = tuple[Floats, NDArray[np.int64]]
"""Sums of texts `[texts, columns]`, and the group of each for the bootstrap."""
LEAST_PAIRS = 20
"""With fewer pairs of desired generations, all pairs are read instead."""
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
    source: FluencySource
    """Which pairs were read: those of which the leading scorer calls both desired, or any; of the
    latter, with `heldout`, texts that the edit made desired were compared with held-out answers."""
    against_base: Interval | None = None
    """The rise over the same pairs against the base's text alone, where `source` is `heldout`."""


def fluency_of(
    reader: FluencyReader,
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

    Where the base hardly ever writes what is desired, what became desired is compared with held-out
    answers: comparing it with the base's undesired text would compare two kinds of text.

    Pairs with an empty text are left out. Prompts are resampled, or their templates.

    Args:
        prompts: those of the arms, or more.
        arms: without and with the edit.
        desired: `[prompts, samples]` of each arm.
        at_most: so many pairs are read, of different prompts as far as possible.
        answers: prompts with desired answers to them; see `answers_of`.
    """
    cells, source = _compared(arms, desired)
    cells = cells[:at_most]
    turned = np.array([desired[1][cell] and not desired[0][cell] for cell in cells], dtype=bool)
    prompt_texts = [prompts[prompt].text for prompt, _ in cells]
    texts = [[arm.texts[prompt][sample] for prompt, sample in cells] for arm in arms]
    if source == "desired" or not turned.any():
        answers = ()
    given = _cut(answers, longest=max(map(len, texts[1]), default=0))
    # All in one call, so that one model reads all.
    read = reader.nll(
        [*prompt_texts, *prompt_texts, *(prompt for prompt, _ in given)],
        [*texts[0], *texts[1], *(text for _, text in given)],
        chat=chat,
    )
    before, after, read_answers = np.split(np.stack(read, axis=1), [len(cells), 2 * len(cells)])
    sums = np.hstack([before, after])
    # A text of nothing but half a character has no token for the reader.
    readable = (sums[:, 1] > 0) & (sums[:, 3] > 0)
    sums, turned = sums[readable], turned[readable]
    if not len(sums):
        return Fluency(Interval(value=0.0, low=0.0, high=0.0), reader.name, 0, source)
    groups = groups_of(prompts)[[prompt for prompt, _ in cells]][readable]
    draws = _rise(bootstrap.sums(sums, groups))
    rise = interval(float(_rise(sums.sum(axis=0))), draws, count_units(len(sums), groups))
    usable = read_answers[:, 1] > 0
    if usable.sum() < LEAST_ANSWERS:
        return Fluency(rise, reader.name, len(sums), source)
    wordings = np.unique([text for _, text in given], return_inverse=True)[1]
    answered = read_answers[usable], wordings[usable]
    against = _against_answers((sums, groups), turned, answered, bootstrap)
    return Fluency(against, reader.name, len(sums), "heldout", against_base=rise)


def answers_of(items: Iterable[Item]) -> list[tuple[str, str]]:
    """Prompts and answers of those items that are an answer to a single message."""
    return [
        (prompt_of(item), text_of(item))
        for item in items
        if isinstance(item, CompletionItem)
        or (
            isinstance(item, ChatItem)
            and [message.role for message in item.messages[:-1]] == ["user"]
        )
    ]


def _cut(answers: Sequence[tuple[str, str]], *, longest: int) -> list[tuple[str, str]]:
    """End answers at a word before so many characters, as generations end at a limit: the first
    words of a text are the hardest to foresee."""
    return [
        (prompt, (len(text) > longest and text[:longest].rpartition(" ")[0]) or text[:longest])
        for prompt, text in answers
    ]


def _against_answers(pairs: _Read, turned: Bools, answers: _Read, bootstrap: Bootstrap) -> Interval:
    """The rise where pairs that turned desired count before at the rate of answers, for as many
    tokens as they have after.

    Args:
        pairs: see `_rise`.
        turned: `[pairs]`.
        answers: `[answers, 2]`: nats and tokens; those of the same words are a group.
    """
    sums, groups = pairs
    added = np.where(turned, sums[:, 3], 0.0)
    parts = np.column_stack([np.where(turned[:, None], 0.0, sums[:, :2]), sums[:, 2:], added])

    def rise(parts: Floats, answered: Floats) -> Floats:
        tokens = parts[..., 4]
        nats = parts[..., 0] + tokens * answered[..., 0] / answered[..., 1]
        return _rise(
            np.stack([nats, parts[..., 1] + tokens, parts[..., 2], parts[..., 3]], axis=-1)
        )

    apart = replace(bootstrap, seed=derive(bootstrap.seed, "answers"))
    draws = rise(bootstrap.sums(parts, groups), apart.sums(*answers))
    units = min(count_units(len(values), of) for values, of in (pairs, answers))
    return interval(float(rise(parts.sum(axis=0), answers[0].sum(axis=0))), draws, units)


def _compared(
    arms: tuple[Arm, Arm], desired: tuple[Bools, Bools]
) -> tuple[list[tuple[int, int]], FluencySource]:
    """Prompt and sample of the pairs that may be read, and which pairs they are."""
    full = _not_empty(arms[0]) & _not_empty(arms[1])
    cells = _cells(desired[0] & desired[1] & full)
    return (cells, "desired") if len(cells) >= LEAST_PAIRS else (_cells(full), "all")


def _rise(sums: Floats) -> Floats:
    """Of `[…, 4]`, nats and tokens before and after: nats a token after minus before."""
    rise: Floats = sums[..., 2] / sums[..., 3] - sums[..., 0] / sums[..., 1]
    return rise


def _not_empty(arm: Arm) -> Bools:
    return np.array([[bool(text) for text in samples] for samples in arm.texts])


def _cells(chosen: Bools) -> list[tuple[int, int]]:
    """Prompt and sample of each true entry, the first samples of all prompts first."""
    return [(prompt, sample) for sample, prompt in np.argwhere(chosen.T).tolist()]
