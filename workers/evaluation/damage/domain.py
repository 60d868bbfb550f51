"""Domain damage: how much less likely the edit makes what it should leave likely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models_store.errors import EditFailed
from models_store.schemas.items import Item, Prompt
from models_store.schemas.measurements import Interval
from workers.evaluation.data.splits import drawn
from workers.evaluation.effect.generations import Arm
from workers.evaluation.progress import Progress
from workers.evaluation.statistics import Bootstrap, Floats, Groups, groups_of
from workers.runtime.likelihood import negative_log_likelihood, read
from workers.runtime.loading import BaseModel
from workers.runtime.side_path import SidePath
from workers.runtime.tokens import Encoded, encode
from workers.surgery.terms import Mixture, Term

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


class LikelihoodMeter:
    """Measures how an edit changes the likelihood of given texts, which the base reads once."""

    def __init__(
        self,
        base: BaseModel,
        texts: Sequence[Encoded],
        groups: Groups | None = None,
        *,
        on_top: Mixture = (),
        side: SidePath | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Args:
        texts: at least one has a token after its first one that counts.
        groups: of each text, for the bootstrap.
        on_top: edits that are part of the model that is compared to.
        """
        self._base = base
        self._texts = texts
        self._groups = groups
        self._on_top = on_top
        self._side = side or SidePath(base)
        reading = read(base, texts, on_top, side=self._side, progress=progress)
        self._before = negative_log_likelihood(base, reading)
        self._counts = reading.counts.astype(np.float64)

    def rise(self, terms: Sequence[Term], strength: float = 1.0) -> float:
        """Over all positions of all texts, nats a token.

        Raises:
            EditFailed: the edited model's probabilities are not finite.
        """
        return float(np.average(self._rises(terms, strength), weights=self._counts))

    def interval(
        self, terms: Sequence[Term], bootstrap: Bootstrap, strength: float = 1.0
    ) -> Interval:
        """`rise` with its interval; texts are resampled, or their groups.

        Raises:
            EditFailed: the edited model's probabilities are not finite.
        """
        nats = self._rises(terms, strength) * self._counts
        return bootstrap.ratio(nats, self._counts, self._groups)

    def _rises(self, terms: Sequence[Term], strength: float) -> Floats:
        mixture = [*self._on_top, (terms, strength)]
        reading = read(self._base, self._texts, mixture, side=self._side)
        rises: Floats = negative_log_likelihood(self._base, reading) - self._before
        require_finite(rises)
        return rises


class DomainMeter:
    """Likelihood of desired text: the base's own, and held-out texts of the behaviour."""

    def __init__(self, samples: LikelihoodMeter | None, heldout: LikelihoodMeter | None) -> None:
        """Args:
        samples: None where there are too few.
        """
        self._samples = samples
        self._heldout = heldout

    @property
    def source(self) -> Source | None:
        if self._samples is not None:
            return "samples"
        return None if self._heldout is None else "heldout"

    def quick(self, terms: Sequence[Term], strength: float = 1.0) -> float | None:
        """The figure that counts; None where there is nothing to measure it on.

        Raises:
            EditFailed: the edited model's probabilities are not finite.
        """
        meter = self._samples or self._heldout
        return None if meter is None else meter.rise(terms, strength)

    def measure(self, terms: Sequence[Term], bootstrap: Bootstrap) -> Domain:
        """Both figures with their intervals.

        Raises:
            EditFailed: the edited model's probabilities are not finite.
        """
        found = [
            None if meter is None else meter.interval(terms, bootstrap)
            for meter in (self._samples, self._heldout)
        ]
        return Domain(self.source, *found)


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
        asked, made = arm.prompts[prompt], arm.made[prompt][sample].ids
        if made and len(texts) < at_most:
            scored = (False,) * len(asked) + (True,) * len(made)
            texts.append(Encoded((*asked, *made), scored, len(asked)))
            owners.append(int(groups[prompt]))
    return texts, owners


def heldout_texts(
    base: BaseModel, items: Sequence[Item], *, chat: bool, at_most: int
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
