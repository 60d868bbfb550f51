"""Choose between candidates: scale each, try it on validation prompts, keep the best.

The winner is the one whose gain by the leading scorer has the largest lower bound, of those within
the limits; one that surely gains and is within 0.9 of every limit goes before one that is not. Test
prompts and the other scorers are not looked at here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from models_store.errors import EditFailed, InvalidRequest
from models_store.measurements import PointDamage
from models_store.methods import FixedMethod
from workers.editor.candidates import Candidate, pair
from workers.editor.making import Prepared
from workers.editor.recipes import Recipe
from workers.editor.tuning import (
    LIMIT_SHARE,
    calibrated,
    fitted_to_limits,
    fluency_used,
    smaller,
    used,
)
from workers.editor.validation import Trial, Validation
from workers.evaluation.budget import Budget
from workers.evaluation.damage import REPORTED, DamageMeter
from workers.evaluation.progress import Parts, Progress, span

_TOLERANCE = 0.05
_STEPS = 5
"""Measurements of a calibration at most: about three are needed."""
_SCALES = 3
"""At which a candidate is tried at most; more than one if its text turns out not to be fluent."""
_FINALS = 2
"""Candidates that are tried for each place in the final, at most: some fall on its texts."""
_ACCEPTED = LIMIT_SHARE * (1 + _TOLERANCE)
"""Share of a limit that a scale may use up."""


@dataclass(frozen=True, eq=False)
class Found:
    """What a search came to."""

    trials: tuple[Trial, ...]
    """Every candidate and scale that was tried; its index is that of its point."""
    skipped: tuple[str, ...]
    """What was not tried, and why."""
    winner: Trial | None
    """None where nothing within the limits gains."""
    broken: Sequence[Candidate] = ()
    """Those that give no numbers on the texts of a final."""

    @property
    def best(self) -> Trial:
        """The winner, else what came nearest: within the limits if anything is."""
        if self.winner is not None:
            return self.winner
        whole = [trial for trial in self.trials if trial.candidate not in self.broken]
        return max(whole or self.trials, key=lambda trial: (not trial.exceeded, *trial.rank))


def search(
    validation: Validation,
    recipes: Sequence[Recipe],
    prepared: Prepared,
    budget: Budget,
    progress: Progress,
) -> Found:
    """Try candidates and choose one.

    Args:
        prepared: what was made of the methods of the recipes.

    Raises:
        EditFailed: no candidate can be tried at all.
    """
    return _Search(validation, recipes, prepared, budget, progress).run()


class _Search:
    """One search: what its steps share."""

    def __init__(
        self,
        validation: Validation,
        recipes: Sequence[Recipe],
        prepared: Prepared,
        budget: Budget,
        progress: Progress,
    ) -> None:
        self._validation = validation
        self._limits = validation.context.limits
        self._recipes = recipes
        self._prepared = prepared
        self._budget = budget
        self._finalists = min(budget.finalists, len(self._recipes))
        self._parts = Parts(self._weights(), progress)
        self._trials: list[Trial] = []
        self._skipped: list[str] = []
        self._broken: list[Candidate] = []
        self._scales: dict[FixedMethod, float] = {}
        """That methods alone are calibrated to."""

    def run(self) -> Found:
        with self._parts.part("meter") as share:
            meter = self._validation.meter(self._budget.damage, share)
        for number, recipe in enumerate(self._recipes):
            with self._parts.part(str(number)) as share:
                self._attempt(recipe, meter, share)
        if not self._trials:
            raise EditFailed("no candidate can be tried: " + "; ".join(self._skipped))
        final: Sequence[Trial] = self._trials
        if self._finalists:
            with self._parts.part("fine meter") as share:
                fine = self._validation.meter(REPORTED, share)
            with self._parts.part("finals") as share:
                final = self._finals(fine, share)
        able = [trial for trial in final if trial.eligible]
        winner = max(able, key=self._preference, default=None)
        return Found(tuple(self._trials), tuple(self._skipped), winner, self._broken)

    def _preference(self, trial: Trial) -> tuple[float, ...]:
        """A sure gain with room to the limits, which are held on other texts, before a larger one
        without; what is not sure to gain is not preferred for its room."""
        roomy = used(self._limits, trial.damage) <= _ACCEPTED
        return (roomy and trial.gain_low > 0, *trial.rank)

    def _weights(self) -> dict[str, float]:
        """Expected cost of each part, in any unit."""
        weights = {"meter": 1.0} | {str(number): 3.0 for number in range(len(self._recipes))}
        if self._finalists:
            weights |= {"fine meter": 2.0, "finals": 6.0 * self._finalists}
        return weights

    def _attempt(self, recipe: Recipe, meter: DamageMeter, progress: Progress) -> None:
        try:
            self._keep(self._tries(recipe, meter, progress))
        except (EditFailed, InvalidRequest) as error:
            self._skipped.append(f"{recipe.label}: {error.message}")

    def _keep(self, trials: Iterator[Trial]) -> Trial:
        """Every trial becomes a point; returns the last one."""
        started = time.monotonic()
        for trial in trials:
            now = time.monotonic()
            self._trials.append(replace(trial, seconds=now - started))
            started = now
        return self._trials[-1]

    def _tries(self, recipe: Recipe, meter: DamageMeter, progress: Progress) -> Iterator[Trial]:
        """Scale a candidate and try it; at smaller scales too while its text is not fluent."""
        candidate = self._candidate(recipe, meter, span(progress, 0.0, 0.2))
        scale = self._scale(recipe, candidate, meter, span(progress, 0.2, 0.4))
        damage = meter.quick(candidate.terms, scale)
        share = used(self._limits, damage)
        if share > _ACCEPTED:
            guess = smaller(scale, share)
            scale, damage = self._fitted(candidate, guess, meter, span(progress, 0.4, 0.5))
        prompts = self._number(self._budget.prompts)
        yield from self._down(candidate, scale, damage, meter, span(progress, 0.5, 1.0), prompts)

    def _down(
        self,
        candidate: Candidate,
        scale: float,
        damage: PointDamage,
        meter: DamageMeter,
        progress: Progress,
        prompts: int,
    ) -> Iterator[Trial]:
        """Try a candidate at a scale, and at smaller ones until it is within all limits.

        What generated text tells comes last, so only then can a scale turn out to be too large.
        """
        for left in reversed(range(_SCALES)):
            share = span(progress, 1 - (left + 1) / _SCALES, 1 - left / _SCALES)
            trial = self._validation.try_out(
                candidate, scale, damage, meter, share, prompts=prompts
            )
            yield trial
            share_used = used(self._limits, trial.damage)
            if not (left and trial.gains and share_used > _ACCEPTED):
                return
            scale = smaller(scale, share_used)
            damage = meter.quick(candidate.terms, scale)

    def _candidate(self, recipe: Recipe, meter: DamageMeter, progress: Progress) -> Candidate:
        """The candidate of a recipe; the methods of a pair are calibrated on their own first."""
        parts = [self._made(method) for method in recipe.methods]
        if len(parts) == 1:
            return parts[0]
        first, second = parts
        scales = (
            recipe.shares[0] * self._alone(recipe.methods[0], meter, span(progress, 0.0, 0.5)),
            recipe.shares[1] * self._alone(recipe.methods[1], meter, span(progress, 0.5, 1.0)),
        )
        return replace(pair(first, second, scales), label=recipe.label)

    def _scale(
        self, recipe: Recipe, candidate: Candidate, meter: DamageMeter, progress: Progress
    ) -> float:
        if len(recipe.methods) == 1:
            return self._alone(recipe.methods[0], meter, progress)
        return self._calibrated(candidate, meter, progress)

    def _alone(self, method: FixedMethod, meter: DamageMeter, progress: Progress) -> float:
        if method not in self._scales:
            self._scales[method] = self._calibrated(self._made(method), meter, progress)
        return self._scales[method]

    def _made(self, method: FixedMethod) -> Candidate:
        """What was made of a method; raises why nothing was."""
        failure = self._prepared.failures.get(method)
        if failure is not None:
            raise failure
        return self._prepared.made[method]

    def _calibrated(self, candidate: Candidate, meter: DamageMeter, progress: Progress) -> float:
        found = calibrated(
            meter, candidate, self._limits, progress, tolerance=_TOLERANCE, max_steps=_STEPS
        )
        return found.scale

    def _fitted(
        self, candidate: Candidate, guess: float, meter: DamageMeter, progress: Progress
    ) -> tuple[float, PointDamage]:
        return fitted_to_limits(
            meter,
            candidate,
            self._limits,
            progress,
            guess=guess,
            tolerance=_TOLERANCE,
            max_steps=_STEPS,
        )

    def _finals(self, meter: DamageMeter, progress: Progress) -> list[Trial]:
        """Scale the best with care and try them on more prompts, until enough have stood it."""
        able = [trial for trial in self._trials if trial.eligible]
        best: dict[int, Trial] = {}
        for trial in sorted(able, key=self._preference, reverse=True):
            best.setdefault(id(trial.candidate), trial)
        stood: list[Trial] = []
        for done, trial in enumerate([*best.values()][: _FINALS * self._finalists]):
            if len(stood) == self._finalists:
                break
            # Nobody knows how many will fall, so each takes a part of what is left.
            share = span(progress, 1 - 0.7**done, 1 - 0.7 ** (done + 1))
            try:
                final = self._keep(self._final(trial, meter, share))
            except EditFailed as error:  # on these texts it gives no numbers any more
                self._broken.append(trial.candidate)
                self._skipped.append(f"{trial.candidate.label}, on more texts: {error.message}")
                continue
            if final.eligible:
                stood.append(final)
        return stood

    def _final(self, trial: Trial, meter: DamageMeter, progress: Progress) -> Iterator[Trial]:
        candidate, scale = trial.candidate, trial.scale
        fluent = smaller(scale, fluency_used(self._limits, trial.damage))
        try:
            scale, damage = self._fitted(candidate, scale, meter, span(progress, 0.0, 0.4))
        except EditFailed:
            damage = meter.quick(candidate.terms, scale)  # beyond a limit, and out with it
        else:
            if fluent < scale:
                scale, damage = fluent, meter.quick(candidate.terms, fluent)
        prompts = self._number(self._budget.final_prompts)
        yield from self._down(candidate, scale, damage, meter, span(progress, 0.4, 1.0), prompts)

    def _number(self, prompts: int | None) -> int:
        there = len(self._validation.prompts)
        return there if prompts is None else min(prompts, there)
