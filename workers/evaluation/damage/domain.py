"""Domain damage: how much less likely the edit makes what it should leave likely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models_store.errors import EditFailed
from models_store.schemas.items import Item, Prompt
from models_store.schemas.measurements import Interval
from workers.evaluation.data.splits import drawn
from workers.evaluation.effect.generations import Arm
from workers.evaluation.statistics import Bootstrap, Floats, Groups, groups_of
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.likelihood import negative_log_likelihood
from workers.runtime.loading import LoadedModel
from workers.runtime.tokens import Encoded, encode
from workers.surgery.terms import Term

LEAST_SAMPLES = 20
"""With fewer samples that are desired, held-out texts are what counts."""
MAX_TEXT_TOKENS = 100
"""Held-out texts are cut at so many tokens."""

Source = Literal["samples", "heldout"]


@dataclass(frozen=True)
class Domain:
    """Rise of the negative log-likelihood, nats a token."""

    source: Source | None
    """Which of the two counts; None where neither could be measured."""
    samples: Interval | None
    heldout: Interval | None

    @property
    def judged(self) -> Interval | None:
        return self.samples if self.source == "samples" else self.heldout


@dataclass(frozen=True, eq=False)
class LikelihoodMeter:
    """Measures how an edit changes the likelihood of given texts, which a model has read once."""

    model: EditedModel
    """What edits go on top of."""
    texts: Sequence[Encoded]
    groups: Groups | None
    """Of each text, for the bootstrap."""
    before: Floats
    """Nats a position of each text by the model without the edits that are measured."""
    counts: Floats
    """Positions of each text."""
    _last: dict[tuple[tuple[str, ...], float], Floats] = field(default_factory=dict)
    """By edit and strength: the rises of the last one."""

    @classmethod
    def read(
        cls, model: EditedModel, texts: Sequence[Encoded], groups: Groups | None = None
    ) -> LikelihoodMeter:
        """Args:
        texts: at least one has a token after its first one that counts.
        """
        reading = model.reading(texts)
        before = negative_log_likelihood(model.loaded, reading)
        return cls(model, texts, groups, before, reading.counts.astype(np.float64))

    def fewer(self, most: int) -> LikelihoodMeter:
        """The same on so many of the texts at most."""
        some = drawn(range(len(self.texts)), most)
        groups = None if self.groups is None else np.asarray(self.groups)[some]
        texts = [self.texts[text] for text in some]
        return LikelihoodMeter(self.model, texts, groups, self.before[some], self.counts[some])

    def mean(self, values: Floats) -> float:
        """Of values of the texts, over all positions of all texts."""
        return float(np.average(values, weights=self.counts))

    def interval(
        self, terms: Sequence[Term], bootstrap: Bootstrap, strength: float = 1.0
    ) -> Interval:
        """The mean of `rises` with its interval; texts are resampled, or their groups.

        Raises:
            EditFailed: the edited model's probabilities are not finite.
        """
        rises = self.rises(terms, strength)
        return bootstrap.ratio(rises * self.counts, self.counts, self.groups)

    def rises(self, terms: Sequence[Term], strength: float = 1.0) -> Floats:
        """Of each text, nats a position; the last edit that was asked for is not read again.

        Raises:
            EditFailed: the edited model's probabilities are not finite.
        """
        edit = (tuple(term.digest for term in terms), strength)
        if edit not in self._last:
            reading = self.model.plus(terms, strength).reading(self.texts)
            rises: Floats = negative_log_likelihood(self.model.loaded, reading) - self.before
            require_finite(rises)
            self._last.clear()
            self._last[edit] = rises
        return self._last[edit]


@dataclass(frozen=True, eq=False)
class DomainMeter:
    """Likelihood of desired text: the base's own, and held-out texts of the behaviour."""

    samples: LikelihoodMeter | None
    """None where there are too few."""
    heldout: LikelihoodMeter | None

    @property
    def source(self) -> Source | None:
        if self.samples is not None:
            return "samples"
        return None if self.heldout is None else "heldout"

    @property
    def leading(self) -> LikelihoodMeter | None:
        """What the figure that counts is measured on; None where there is nothing."""
        return self.samples or self.heldout

    def measure(self, terms: Sequence[Term], bootstrap: Bootstrap) -> Domain:
        """Both figures with their intervals.

        Raises:
            EditFailed: the edited model's probabilities are not finite.
        """
        sums = [
            None if meter is None else meter.interval(terms, bootstrap)
            for meter in (self.samples, self.heldout)
        ]
        return Domain(self.source, *sums)


def own_samples(
    arm: Arm, desired: NDArray[np.bool_], prompts: Sequence[Prompt], at_most: int
) -> tuple[list[Encoded], Groups]:
    """A model's own continuations that are desired, as it read and wrote them, and their groups.

    Args:
        desired: `[prompts, samples]`.
        prompts: those of the arm, or more.
        at_most: so many, of different prompts as far as possible.
    """
    groups = groups_of(prompts)
    texts: list[Encoded] = []
    owners: list[int] = []
    for sample, prompt in np.argwhere(desired.T).tolist():
        prompt_ids, new_ids = arm.prompts[prompt], arm.made[prompt][sample].ids
        if new_ids and len(texts) < at_most:
            texts.append(Encoded.response(prompt_ids, new_ids))
            owners.append(int(groups[prompt]))
    return texts, owners


def heldout_meter(
    model: EditedModel, items: Sequence[Item], *, chat: bool, at_most: int
) -> LikelihoodMeter | None:
    """Of at most so many of the items in which something can be predicted; None without any."""
    texts = heldout_texts(model.loaded, items, chat=chat, at_most=at_most)
    return LikelihoodMeter.read(model, texts) if texts else None


def heldout_texts(
    base: LoadedModel, items: Sequence[Item], *, chat: bool, at_most: int
) -> list[Encoded]:
    """At most so many of the items in which something can be predicted."""
    texts = encode(base, items, max_tokens=MAX_TEXT_TOKENS, chat=chat)
    return drawn([text for text in texts if any(text.scored[1:])], at_most)


def require_finite(values: Floats) -> None:
    """Refuse figures of a model that no longer computes.

    Raises:
        EditFailed: a value is infinite or undefined.
    """
    if not np.isfinite(values).all():
        raise EditFailed(
            "the edited model gives logits that are not finite: the edit is far too strong for "
            "the dtype; choose a smaller scale"
        )
