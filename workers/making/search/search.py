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
from itertools import islice

from models_store.errors import EditFailed, InvalidRequest
from models_store.schemas.measurements import PointDamage
from models_store.schemas.methods import FixedMethod
from workers.evaluation.context.budget import Budget
from workers.evaluation.damage.damage import REPORTED, DamageMeter
from workers.evaluation.progress import Parts, Progress, span
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
from workers.surgery.candidate import Candidate, pair

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
        return max(
            whole or self.trials, key=lambda trial: (not trial.exceeded, trial.gains, *trial.rank)
        )


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
                final = self._finals(meter, fine, share)
        else:
            with self._parts.part("smaller scales") as share:
                for _ in self._contenders(meter, share):
                    pass
        able = [trial for trial in final if trial.eligible]
        winner = max(able, key=self._preference, default=None)
        return Found(tuple(self._trials), tuple(self._skipped), winner, self._broken)

    def _preference(self, trial: Trial) -> tuple[float, ...]:
        """A sure gain with room to the limits, which are held on other texts, before a larger one
        without; what is not sure to gain is not preferred for its room."""
        roomy = used(self._limits, trial.damage) <= _ACCEPTED
        return (roomy and trial.effect.improved, *trial.rank)

    def _weights(self) -> dict[str, float]:
        """Expected cost of each part, in any unit."""
        weights = {"meter": 1.0} | {str(number): 2.0 for number in range(len(self._recipes))}
        if self._finalists:
            return weights | {"fine meter": 2.0, "finals": 8.0 * self._finalists}
        return weights | {"smaller scales": 2.0 * len(self._recipes)}

    def _attempt(self, recipe: Recipe, meter: DamageMeter, progress: Progress) -> None:
        """Try a candidate at the largest scale that is allowed by what needs no generated text."""
        started = time.monotonic()
        try:
            candidate = self._candidate(recipe, meter, span(progress, 0.0, 0.2))
            method, *others = recipe.methods
            guess = candidate.guess if others else self._scales.get(method, candidate.guess)
            scale, damage = self._fitted(candidate, guess, meter, span(progress, 0.2, 0.5))
            tell = span(progress, 0.5, 1.0)
            prompts = self._number(self._budget.prompts)
            self._try_out(candidate, scale, damage, meter, tell, prompts, started)
        except (EditFailed, InvalidRequest) as error:
            self._skipped.append(f"{recipe.label}: {error.message}")

    def _contenders(self, meter: DamageMeter, progress: Progress) -> Iterator[Trial]:
        """Of each candidate that comes to be within all limits the best trial, the most promising
        first; smaller scales are tried when it is their turn."""
        left = {id(trial.candidate): _SCALES - 1 for trial in self._trials}
        waiting = [(trial, self._smaller(trial)) for trial in self._trials]
        tries = 0
        while waiting:
            turn = max(waiting, key=lambda one: _promise(*one))
            waiting.remove(turn)
            trial, scale = turn
            candidate = trial.candidate
            if scale is None:
                own = (one for one in self._trials if one.candidate is candidate and one.eligible)
                best = max(own, key=self._preference, default=None)
                if best is not None:
                    yield best
                continue
            # Nobody knows how many there will be, so each takes a part of what is left.
            tell = span(progress, 1 - 0.8**tries, 1 - 0.8 ** (tries + 1))
            tries += 1
            left[id(candidate)] -= 1
            after = self._again(trial, scale, meter, tell)
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

    def _again(
        self, trial: Trial, scale: float, meter: DamageMeter, progress: Progress
    ) -> Trial | None:
        """The same at another scale; None if the model gives no numbers there."""
        started = time.monotonic()
        candidate = trial.candidate
        try:
            damage = meter.quick(candidate.terms, scale)
            return self._try_out(candidate, scale, damage, meter, progress, trial.prompts, started)
        except EditFailed as error:
            self._skipped.append(f"{candidate.label}, scale {scale:.3g}: {error.message}")
            return None

    def _try_out(
        self,
        candidate: Candidate,
        scale: float,
        damage: PointDamage,
        meter: DamageMeter,
        progress: Progress,
        prompts: int,
        started: float,
    ) -> Trial:
        """Try a candidate on the first so many prompts, and keep the trial as a point."""
        trial = self._validation.try_out(candidate, scale, damage, meter, progress, prompts=prompts)
        trial = replace(trial, seconds=time.monotonic() - started)
        self._trials.append(trial)
        return trial

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

    def _alone(self, method: FixedMethod, meter: DamageMeter, progress: Progress) -> float:
        """The scale at which a method alone uses up the limit of the KL."""
        if method not in self._scales:
            candidate = self._made(method)
            found = calibrated(
                meter, candidate, self._limits, progress, tolerance=_TOLERANCE, max_steps=_STEPS
            )
            self._scales[method] = found.scale
        return self._scales[method]

    def _made(self, method: FixedMethod) -> Candidate:
        """What was made of a method; raises why nothing was."""
        failure = self._prepared.failures.get(method)
        if failure is not None:
            raise failure
        return self._prepared.made[method]

    def _fitted(
        self,
        candidate: Candidate,
        guess: float,
        meter: DamageMeter,
        progress: Progress,
        fluency: float = 0.0,
    ) -> tuple[float, PointDamage]:
        return fitted_to_limits(
            meter,
            candidate,
            self._limits,
            progress,
            guess=guess,
            target=_TARGET,
            tolerance=_TOLERANCE,
            max_steps=_STEPS,
            fluency=fluency,
        )

    def _finals(self, meter: DamageMeter, fine: DamageMeter, progress: Progress) -> list[Trial]:
        """Scale the best with care and try them on more prompts, until enough have stood it."""
        contenders = islice(self._contenders(meter, lambda share: None), _FINALS * self._finalists)
        finals: list[Trial] = []
        stood = done = 0
        while stood < self._finalists and (trial := next(contenders, None)) is not None:
            # Nobody knows how many will fall, so each takes a part of what is left.
            share = span(progress, 1 - 0.7**done, 1 - 0.7 ** (done + 1))
            done += 1
            try:
                own = self._final(trial, fine, share)
            except EditFailed as error:  # on these texts it gives no numbers any more
                self._broken.append(trial.candidate)
                self._skipped.append(f"{trial.candidate.label}, on more texts: {error.message}")
                continue
            finals += own
            stood += any(one.eligible for one in own)
        return finals

    def _final(self, trial: Trial, meter: DamageMeter, progress: Progress) -> list[Trial]:
        """What was tried of a candidate, at one scale or more."""
        started = time.monotonic()
        candidate = trial.candidate
        fluency = _MARGIN * fluency_used(self._limits, trial.damage)
        guess = min(trial.scale, smaller(trial.scale, fluency))
        fluency_at_one = fluency / trial.scale**GROWTH
        tell = span(progress, 0.0, 0.4)
        try:
            scale, damage = self._fitted(candidate, guess, meter, tell, fluency_at_one)
        except EditFailed:
            scale, damage = guess, meter.quick(candidate.terms, guess)  # beyond a limit
        prompts = self._number(self._budget.final_prompts)
        tell = span(progress, 0.4, 0.6)
        tried = [self._try_out(candidate, scale, damage, meter, tell, prompts, started)]
        for tries in range(1, _SCALES):
            less = self._smaller(tried[-1])
            if less is None:
                break
            tell = span(progress, 0.4 + 0.2 * tries, 0.6 + 0.2 * tries)
            after = self._again(tried[-1], less, meter, tell)
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
