"""What a suite is, and the two models that it compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from models_store.schemas.measurements import Contrast, SuiteMetric
from workers import progress
from workers.evaluation.effect.generations import DecodingSettings, generate_arm
from workers.evaluation.seeds import derive
from workers.evaluation.statistics import Bootstrap, Floats
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel

T = TypeVar("T")

Texts = Sequence[Sequence[str]]
"""By prompt, then sample."""


@dataclass(frozen=True, eq=False)
class ModelPair:
    """A model without and with an edit, given the same items and the same random numbers."""

    before: EditedModel
    after: EditedModel
    seed: int
    bootstrap: Bootstrap

    @property
    def loaded(self) -> LoadedModel:
        return self.before.loaded

    @property
    def models(self) -> tuple[EditedModel, EditedModel]:
        return self.before, self.after

    def generate(
        self, prompts: Sequence[Sequence[int]], decoding: DecodingSettings
    ) -> tuple[Texts, Texts]:
        """Continue token ids with both models; a prompt too long for the context loses its start.

        Returns:
            What the model wrote without and with the edit.
        """
        room = max(1, self.loaded.context_length - decoding.max_new_tokens)
        kept = [prompt[-room:] for prompt in prompts]
        arms = [generate_arm(model, kept, decoding) for model in progress.track(self.models)]
        return arms[0].texts, arms[1].texts

    def metric(
        self, name: str, before: Floats, after: Floats, *, higher_is_better: bool
    ) -> SuiteMetric:
        """A mean over items, both `[items]`, with the interval of the paired difference."""
        return SuiteMetric(
            name=name,
            higher_is_better=higher_is_better,
            of=Contrast(
                base=float(before.mean()),
                edited=float(after.mean()),
                difference=self.bootstrap.mean(after - before),
            ),
            items=len(before),
        )


class Suite(Protocol):
    """A suite with its data, read and checked."""

    @property
    def protocol(self) -> str:
        """What is done, in a line: for the receipt."""
        ...

    @property
    def data(self) -> str:
        """Names and digests of the files."""
        ...

    def run(self, pair: ModelPair) -> tuple[SuiteMetric, ...]:
        """Measure both models.

        Raises:
            InvalidRequest: the items do not fit the model.
        """
        ...


def greedy(max_new_tokens: int) -> DecodingSettings:
    """The likeliest token each time; no random number is used."""
    return DecodingSettings(
        max_new_tokens=max_new_tokens, seed=0, samples=1, temperature=0.0, top_k=0
    )


def choose(items: Sequence[T], count: int, suite: str) -> list[T]:
    """At most `count` items: the same ones for every edit, so that receipts can be compared."""
    order = np.random.default_rng(derive(0, f"suite/{suite}")).permutation(len(items))
    return [items[index] for index in order[:count].tolist()]
