"""The effect of an edit on generated text, prompt by prompt against the base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from models_store.schemas.measurements import Contrast, Effect, Interval
from workers.evaluation.effect.generations import Arm
from workers.evaluation.scorers.prepare import PreparedScorer
from workers.evaluation.statistics import (
    USUAL_CONFIDENCE,
    Bools,
    Bootstrap,
    Floats,
    Groups,
    count_units,
    smallest_visible,
)


@dataclass(frozen=True, eq=False)
class Scored:
    """What one scorer makes of the generations of two models from the same prompts."""

    scorer: PreparedScorer
    base: Floats
    """`[prompts, samples]` in [0, 1]."""
    edited: Floats
    """The same shape; sample k of a prompt used the random numbers of the base's."""
    groups: Groups | None = None
    """Of the prompts: those of one template are resampled together."""

    def effect(self, bootstrap: Bootstrap) -> Effect:
        """Rates and mean scores of both models, with intervals of the differences."""
        return Effect(
            scorer=self.scorer.name,
            rate=contrast(
                self._counted(self.base), self._counted(self.edited), bootstrap, self.groups
            ),
            score=contrast(self.base, self.edited, bootstrap, self.groups),
        )

    @property
    def desired(self) -> tuple[Bools, Bools]:
        """Which generations the scorer calls desired, `[prompts, samples]`: base, edited."""
        return ~self.scorer.undesired(self.base), ~self.scorer.undesired(self.edited)

    @property
    def samples(self) -> int:
        """Generations of each prompt."""
        return int(self.edited.shape[1])

    @property
    def units(self) -> int:
        """How many of the prompts are independent: those of one template count once."""
        return count_units(len(self.base), self.groups)

    def smallest_visible(self, confidence: float = USUAL_CONFIDENCE) -> float:
        """The smallest change of the rate that these prompts would mostly show."""
        return smallest_visible(self.rate_differences(), self.groups, confidence)

    def rate_differences(self) -> Floats:
        """Edited minus base, `[prompts]`."""
        return _by_prompt(self._counted(self.edited)) - _by_prompt(self._counted(self.base))

    def first(self, prompts: int, samples: int) -> Scored:
        """The same of fewer prompts and samples."""
        return replace(
            self,
            base=self.base[:prompts, :samples],
            edited=self.edited[:prompts, :samples],
            groups=None if self.groups is None else self.groups[:prompts],
        )

    def with_baseline(self, scores: Floats) -> Scored:
        """A baseline in the edited model's place; scores `[prompts, samples]`."""
        return replace(self, edited=scores)

    def agreement(self, other: Scored) -> float:
        """Share of all generations on which two scorers say the same."""
        pairs = ((self.base, other.base), (self.edited, other.edited))
        same = [self.scorer.undesired(a) == other.scorer.undesired(b) for a, b in pairs]
        return float(np.mean(same))

    def _counted(self, scores: Floats) -> Floats:
        return self.scorer.undesired(scores).astype(np.float64)


def scored_arms(
    scorers: Sequence[PreparedScorer],
    prompts: Sequence[str],
    before: Arm,
    after: Arm,
    groups: Groups | None,
) -> list[Scored]:
    """Generations of two models from the same prompts, by each scorer.

    Args:
        prompts: what the scorers are told that the texts go on from.
        groups: of the prompts.
    """
    return [
        Scored(
            scorer,
            score_grid(scorer, prompts, before.texts),
            score_grid(scorer, prompts, after.texts),
            groups,
        )
        for scorer in scorers
    ]


def contrast(
    base: Floats, edited: Floats, bootstrap: Bootstrap, groups: Groups | None = None
) -> Contrast:
    """Means over prompts of both models, and of their difference with its interval.

    Samples of one prompt are averaged first: they are not independent, prompts are.

    Args:
        base: `[prompts, samples]`, none of them negative.
        edited: the same shape.
        groups: of the prompts; None: each stands for itself.
    """
    before, after = _by_prompt(base), _by_prompt(edited)
    # Shares differ by 1 at most, lengths by the longest.
    reach = max(1.0, float(before.max()), float(after.max()))
    return Contrast(
        base=float(before.mean()),
        edited=float(after.mean()),
        difference=bootstrap.mean(after - before, groups, reach),
    )


def edit_against_baseline(edit: Scored, baseline: Scored, bootstrap: Bootstrap) -> Interval:
    """The edit's rate minus the baseline's, on the same prompts."""
    apart = edit.rate_differences() - baseline.rate_differences()
    return bootstrap.mean(apart, edit.groups)


def score_grid(
    scorer: PreparedScorer, prompts: Sequence[str], texts: Sequence[Sequence[str]]
) -> Floats:
    """Scores `[prompts, samples]` of generated texts.

    Args:
        texts: of each prompt, equally many samples.
    """
    samples = len(texts[0])
    flat = [text for of_prompt in texts for text in of_prompt]
    repeated = [prompt for prompt in prompts for _ in range(samples)]
    return scorer.score(repeated, flat).reshape(len(prompts), samples)


def _by_prompt(scores: Floats) -> Floats:
    means: Floats = scores.mean(axis=1)
    return means
