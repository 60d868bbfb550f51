"""Choose between candidates: scale each, try it on validation prompts, keep the best.

The winner is the one with the largest lower bound of how much the leading scorer's mean falls, of
those within the limits that lessen undesired text; one that surely does and has room to every limit
goes before one that does not. Test prompts and the other scorers are not looked at here.

First every candidate is tried at the scale that all that needs no generated text allows. What turns
out not to be fluent is tried at smaller scales, the most promising first and only while the final
has places: what would gain less than those in it is left where it is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from models_store.errors import EditFailed, InvalidRequest
from models_store.schemas.methods import FixedMethod
from workers import progress
from workers.evaluation.context.budget import Budget
from workers.evaluation.damage.damage import REPORTED, DamageMeter
from workers.making.fitting.fitting import Prepared
from workers.making.search.recipes import Recipe
from workers.making.search.tuning import (
    GROWTH,
    calibrated,
    fitted_to_limits,
    fluency_used,
    smaller,
    used,
)
from workers.making.search.validation import Trial, Validation
from workers.surgery.fitted import FittedEdit, pair

_TARGET = 0.875
"""Share of the limit that binds first that a scale is to use up: with its tolerance, no more than
`_ACCEPTED`."""
_TOLERANCE = 0.08
_STEPS = 5
"""Measurements of a calibration at most: two or three are needed."""
_MARGIN = 1.1
"""Fluency, measured on few texts, is taken for so many times what it is when a scale is chosen."""
_SCALES = 3
"""At which a candidate is tried at most; more than one if its text turns out not to be fluent."""
_FINALS = 2
"""Candidates that are tried for each place in the final, at most: some fall on its texts."""
_ACCEPTED = _TARGET * (1 + _TOLERANCE)
"""Share of a limit that a scale may use up."""


@dataclass(frozen=True, eq=False)
class SearchResult:
    """What a search came to."""

    trials: tuple[Trial, ...]
    """Every candidate and scale that was tried; its index is that of its point."""
    skipped: tuple[str, ...]
    """What was not tried, and why."""
    winner: Trial | None
    """None where nothing within the limits gains."""
    broken: Sequence[FittedEdit] = ()
    """Those that give no numbers on the texts of a final."""

    @property
    def best(self) -> Trial:
        """The winner, else what came nearest: within the limits if anything is."""
        if self.winner is not None:
            return self.winner
        whole = [trial for trial in self.trials if trial.candidate not in self.broken]
        return max(
            whole or self.trials, key=lambda trial: (not trial.exceeded, trial.gains, *trial.rank)
        )


def search(
    validation: Validation,
    recipes: Sequence[Recipe],
    prepared: Prepared,
    budget: Budget,
) -> SearchResult:
    """Try candidates and choose one.

    Args:
        prepared: what was made of the methods of the recipes.

    Raises:
        EditFailed: no candidate can be tried at all.
    """
    state = _Search(validation, recipes, prepared, budget)
    progress.plan(state.weights())
    with progress.step("meter"):
        meter = validation.meter(budget.damage)
    with progress.step("recipes"):
        for recipe in progress.track(recipes):
            state.attempt(recipe, meter)
    if not state.trials:
        raise EditFailed("no candidate can be tried: " + "; ".join(state.skipped))
    if state.finalists:
        with progress.step("fine meter"):
            fine = validation.meter(REPORTED)
        with progress.step("finals"):
            contenders = state.contenders(meter)
            final: list[Trial] = []
            # Some fall on the texts of the final.
            for _ in range(_FINALS * state.finalists):
                with progress.step("final", 1 / (_FINALS * state.finalists)):
                    with progress.step("next", 0.2):
                        contender = next(contenders, None)
                    final += state.final(contender, fine) if contender else []
                passed = {id(trial.candidate) for trial in final if trial.eligible}
                if contender is None or len(passed) == state.finalists:
                    break
    else:
        with progress.step("smaller scales"):
            for _ in state.contenders(meter):
                pass
        final = state.trials
    eligible = [trial for trial in final if trial.eligible]
    winner = max(eligible, key=state.preference, default=None)
    return SearchResult(tuple(state.trials), tuple(state.skipped), winner, state.broken)


class _Search:
    """One search: what its steps share."""

    def __init__(
        self,
        validation: Validation,
        recipes: Sequence[Recipe],
        prepared: Prepared,
        budget: Budget,
    ) -> None:
        self._validation = validation
        self._limits = validation.context.limits
        self._recipes = recipes
        self._prepared = prepared
        self._budget = budget
        self.finalists = min(budget.finalists, len(self._recipes))
        self.trials: list[Trial] = []
        self.skipped: list[str] = []
        self.broken: list[FittedEdit] = []
        self._fitted = partial(
            fitted_to_limits,
            limits=self._limits,
            target=_TARGET,
            tolerance=_TOLERANCE,
            max_steps=_STEPS,
        )
        self._scales: dict[FixedMethod, float] = {}
        """That methods alone are calibrated to."""

    def preference(self, trial: Trial) -> tuple[float, ...]:
        """A sure gain with room to the limits, which are held on other texts, before a larger one
        without; what is not sure to gain is not preferred for its room."""
        roomy = used(self._limits, trial.damage) <= _ACCEPTED
        return (roomy and trial.effect.improved, *trial.rank)

    def weights(self) -> dict[str, float]:
        """Expected cost of each part, in any unit."""
        weights = {"meter": 1.0, "recipes": 2.0 * len(self._recipes)}
        if self.finalists:
            return weights | {"fine meter": 2.0, "finals": 8.0 * self.finalists}
        return weights | {"smaller scales": 2.0 * len(self._recipes)}

    def attempt(self, recipe: Recipe, meter: DamageMeter) -> None:
        """Try a candidate at the largest scale that is allowed by what needs no generated text."""
        started = time.monotonic()
        try:
            with progress.step("alone", 0.2):
                candidate = self._candidate(recipe, meter)
            method, *others = recipe.methods
            guess = candidate.guess if others else self._scales.get(method, candidate.guess)
            with progress.step("scales", 0.3):
                scale, damage = self._fitted(meter, candidate, guess=guess)
            prompts = self._number(self._budget.prompts)
            with progress.step("text"):
                trial = self._validation.try_out(candidate, scale, damage, meter, prompts=prompts)
            self._kept(trial, started)
        except (EditFailed, InvalidRequest) as error:
            self.skipped.append(f"{recipe.label}: {error.message}")

    def contenders(self, meter: DamageMeter) -> Iterator[Trial]:
        """Of each candidate that comes to be within all limits the best trial, the most promising
        first; smaller scales are tried when it is their turn."""
        left = {id(trial.candidate): _SCALES - 1 for trial in self.trials}
        waiting = [(trial, self._smaller(trial)) for trial in self.trials]
        most = sum(left.values()) or 1
        while waiting:
            turn = max(waiting, key=lambda pair: _promise(*pair))
            waiting.remove(turn)
            trial, scale = turn
            candidate = trial.candidate
            if scale is None:
                eligible = (
                    other
                    for other in self.trials
                    if other.candidate is candidate and other.eligible
                )
                best = max(eligible, key=self.preference, default=None)
                if best is not None:
                    yield best
                continue
            left[id(candidate)] -= 1
            with progress.step("try", 1 / most):
                after = self._again(trial, scale, meter)
            if after is None:
                waiting.append((trial, None))
            else:
                waiting.append((after, self._smaller(after) if left[id(candidate)] else None))

    def _smaller(self, trial: Trial) -> float | None:
        """The scale that is to be within all limits; None where the trial's is, or gains nothing.

        What generated text tells comes last, so only then can a scale turn out to be too large.
        """
        share = used(self._limits, trial.damage)
        if not trial.gains or share <= _ACCEPTED:
            return None
        return smaller(trial.scale, max(share, _MARGIN * fluency_used(self._limits, trial.damage)))

    def _again(self, trial: Trial, scale: float, meter: DamageMeter) -> Trial | None:
        """The same at another scale; None if the model gives no numbers there."""
        started = time.monotonic()
        candidate = trial.candidate
        try:
            damage = meter.quick(candidate.terms, scale)
            after = self._validation.try_out(candidate, scale, damage, meter, prompts=trial.prompts)
            return self._kept(after, started)
        except EditFailed as error:
            self.skipped.append(f"{candidate.label}, scale {scale:.3g}: {error.message}")
            return None

    def _kept(self, trial: Trial, started: float) -> Trial:
        """The trial with the seconds that it took, kept as a point."""
        trial = replace(trial, seconds=time.monotonic() - started)
        self.trials.append(trial)
        return trial

    def _candidate(self, recipe: Recipe, meter: DamageMeter) -> FittedEdit:
        """The candidate of a recipe; the methods of a pair are calibrated on their own first."""
        parts = [self._made(method) for method in recipe.methods]
        if len(parts) == 1:
            return parts[0]
        first, second = parts
        first_scale, second_scale = (
            share * self._alone(method, meter)
            for method, share in progress.track(
                list(zip(recipe.methods, recipe.shares, strict=True))
            )
        )
        return replace(pair(first, second, (first_scale, second_scale)), label=recipe.label)

    def _alone(self, method: FixedMethod, meter: DamageMeter) -> float:
        """The scale at which a method alone uses up the limit of the KL."""
        if method not in self._scales:
            candidate = self._made(method)
            calibration = calibrated(
                meter, candidate, self._limits, tolerance=_TOLERANCE, max_steps=_STEPS
            )
            self._scales[method] = calibration.scale
        return self._scales[method]

    def _made(self, method: FixedMethod) -> FittedEdit:
        """What was made of a method; raises why nothing was."""
        failure = self._prepared.failures.get(method)
        if failure is not None:
            raise failure
        return self._prepared.made[method]

    def final(self, trial: Trial, meter: DamageMeter) -> list[Trial]:
        """Scale a candidate with care and try it on more prompts, at one scale or more."""
        started = time.monotonic()
        candidate = trial.candidate
        fluency = _MARGIN * fluency_used(self._limits, trial.damage)
        guess = min(trial.scale, smaller(trial.scale, fluency))
        fluency_at_one = fluency / trial.scale**GROWTH
        prompts = self._number(self._budget.final_prompts)
        try:
            with progress.step("scales", 0.3):
                try:
                    scale, damage = self._fitted(
                        meter, candidate, guess=guess, fluency=fluency_at_one
                    )
                except EditFailed:
                    scale, damage = guess, meter.quick(candidate.terms, guess)  # beyond a limit
            with progress.step("text", 0.2):
                first = self._validation.try_out(candidate, scale, damage, meter, prompts=prompts)
        except EditFailed as error:  # on these texts it gives no numbers any more
            self.broken.append(candidate)
            self.skipped.append(f"{candidate.label}, on more texts: {error.message}")
            return []
        tried = [self._kept(first, started)]
        for _ in range(1, _SCALES):
            less = self._smaller(tried[-1])
            if less is None:
                break
            with progress.step("smaller", 0.15):
                after = self._again(tried[-1], less, meter)
            if after is None:
                break
            tried.append(after)
        return tried

    def _number(self, prompts: int | None) -> int:
        there = len(self._validation.prompts)
        return there if prompts is None else min(prompts, there)


def _promise(trial: Trial, scale: float | None) -> float:
    """The bound of how much the mean score is to fall at a smaller scale: the fall shrinks with the
    scale, the width of its interval does not."""
    share = 1.0 if scale is None else scale / trial.scale
    change = trial.effect.score.difference
    return change.value - change.high - share * change.value
