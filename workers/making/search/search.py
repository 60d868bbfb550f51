"""Choose between candidates: scale each, let them race on validation prompts, try the best.

The winner is the one with the largest lower bound of how much the leading scorer's mean falls, of
those within the limits that do not surely add undesired text; one that lessens it and has room to
every limit goes before one that does not. Few prompts may show no fall where there is one, so what
is not sure is left to the test. Test prompts and the other scorers are not looked at here.

First every candidate is scaled coarsely, by what needs no generated text. All then continue the
same prompts with the same random numbers, a block at a time. Their falls are projected to the scale
that all limits allow, that of fluency too, and those that surely fall less than the leader leave.
The most promising come to the final: scaled with care and tried on all prompts, at smaller scales
too where their text is not fluent. Last, the preferred one writes long texts and answers harmless
requests, and the next one where it loops or refuses. Where none is left, the most promising are
halved until all limits hold.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from models_store.errors import EditFailed, InvalidRequest
from models_store.schemas.measurements import PointDamage
from models_store.schemas.methods import FixedMethod
from workers import progress
from workers.evaluation.context.budget import Budget
from workers.evaluation.damage.damage import DamageMeter
from workers.evaluation.statistics import Floats
from workers.making.fitting.fitting import Prepared
from workers.making.search.recipes import Recipe
from workers.making.search.tuning import (
    GROWTH,
    at_limit,
    calibrated,
    fitted_to_limits,
    fluency_used,
    kl_target,
    used,
)
from workers.making.search.validation import Entry, Trial, Validation
from workers.surgery.fitted import FittedEdit, pair

_COARSE, _COARSE_TOLERANCE = 0.75, 0.2
"""Share of the limit that binds first that a candidate uses up in the race, and how near to it is
near enough: how much its scores fall is projected to the same share."""
_LEAST_SHARE = _COARSE / 2
"""What uses up less is taken to use up so much: a guess goes no further up than that."""
_TARGET = 0.875
"""The share in the final: with its tolerance, no more than `_ACCEPTED`."""
_TOLERANCE = 0.08
_STEPS = 5
"""Measurements of a calibration at most: one to three are needed."""
_BLOCK = 20
"""Prompts that a race goes on for, before the slowest leave."""
_SURELY = 2.0
"""Standard errors of the difference between two candidates that count as sure."""
_SCALES = 3
"""At which a candidate is tried in the final at most."""
_FINALS = 2
"""Candidates that are tried for each place in the final, at most: some fall on its texts."""
_HALVINGS = 4
"""Of a scale at most: what is left of the KL is 1 part in 256, and of any effect little."""
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
    """None where every edit surely adds undesired text, or exceeds a limit at any scale."""
    broken: Sequence[FittedEdit] = ()
    """Those that give no numbers on the texts of a final."""

    @property
    def best(self) -> Trial:
        """The winner, else what came nearest: within the limits if anything is."""
        if self.winner is not None:
            return self.winner
        whole = [trial for trial in self.trials if trial.candidate not in self.broken]
        return max(
            whole or self.trials,
            key=lambda trial: (not trial.exceeded, trial.effect.gains, *trial.rank),
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
        fine = validation.meter(budget.final_damage)
        meter = fine.fewer(budget.damage)
    with progress.step("scales"):
        for recipe in progress.track(recipes):
            state.enter(recipe, meter)
    if not state.entries:
        raise EditFailed("no candidate can be tried: " + "; ".join(state.skipped))
    with progress.step("race"):
        ranked = state.race(meter)
    finals: list[Trial] = []
    with progress.step("finals"):
        for contender in progress.track(ranked):
            finals += state.final(contender, fine)
            passed = {one.candidate for one in finals if one.eligible and one.effect.gains}
            if len(passed) == state.finalists:
                break
    with progress.step("long_texts"):
        winner = state.winner(finals, fine)
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
        self.finalists = min(budget.finalists, len(recipes))
        self.entries: list[Entry] = []
        self.trials: list[Trial] = []
        self.skipped: list[str] = []
        self.broken: list[FittedEdit] = []
        self._alone: dict[FixedMethod, float] = {}
        """By method: the scale at which it uses up the KL that is allowed, about."""

    def preference(self, trial: Trial) -> tuple[float, ...]:
        """A gain with room to the limits, which are held on other texts, before a larger one
        without."""
        roomy = self._used(trial) <= _ACCEPTED
        return (roomy and trial.effect.gains, *trial.rank)

    def weights(self) -> dict[str, float]:
        """Expected cost of each part, in any unit."""
        return {
            "meter": 2.0,
            "scales": 1.0 * len(self._recipes),
            "race": 1.5 * len(self._recipes),
            "finals": 6.0 * _FINALS * self.finalists,
            "long_texts": 3.0,
        }

    def enter(self, recipe: Recipe, meter: DamageMeter) -> None:
        """Scale a candidate by what needs no generated text, coarsely."""
        begun = time.monotonic()
        try:
            candidate = self._candidate(recipe, meter)
            method, *others = recipe.methods
            guess = candidate.guess if others else self._alone.get(method, candidate.guess)
            scale, damage = fitted_to_limits(
                meter,
                candidate,
                self._limits,
                guess=guess,
                target=_COARSE,
                tolerance=_COARSE_TOLERANCE,
                max_steps=_STEPS,
            )
            if not others:
                self._alone[method] = self._at_limit(scale, damage.kl)
            entry = self._validation.entry(candidate, scale, damage)
            self.entries.append(replace(entry, seconds=time.monotonic() - begun))
        except (EditFailed, InvalidRequest) as error:
            self.skipped.append(f"{recipe.label}: {error.message}")

    def race(self, meter: DamageMeter) -> list[Trial]:
        """Those that do not surely add undesired text, so many as may come to the final, the most
        promising first; the others leave as soon as it is sure that the leader's scores fall more,
        and stay points."""
        kept = _FINALS * self.finalists
        entries = self.entries
        prompts = self._number(self._budget.prompts)
        trials: dict[Entry, Trial] = {}
        for number, done in enumerate(range(0, prompts, _BLOCK)):
            with progress.step(f"block {number}", _BLOCK / prompts):
                entries = self._validation.generate(entries, min(done + _BLOCK, prompts))
                trials = {entry: self._validation.trial(entry, meter) for entry in entries}
            falls = {entry: self._projected(entry, trial) for entry, trial in trials.items()}
            entries.sort(key=lambda entry: -float(falls[entry].mean()))
            leader = falls[entries[0]]
            slow = [entry for entry in entries[kept:] if _surely_less(falls[entry], leader)]
            self.trials += [trials.pop(entry) for entry in slow]
            entries = list(trials)
        self.trials += trials.values()
        possible = [trial for trial in trials.values() if not trial.effect.contradicts]
        return sorted(possible, key=self._promise, reverse=True)[:kept]

    def _projected(self, entry: Entry, trial: Trial) -> Floats:
        """Falls of the prompts' mean scores, `[prompts]`, at the scale that all limits allow."""
        falls = self._validation.falls(entry)
        change = self._fall(trial) - falls.mean()
        projected: Floats = falls + change
        return projected

    def _fall(self, trial: Trial) -> float:
        """Of the mean score, at the scale that all limits allow."""
        score, step = trial.effect.score, self._allowed(trial) / trial.scale
        return _fall_at(step, score.base, score.edited)

    def _promise(self, trial: Trial) -> float:
        """The bound of that fall; the width of its interval is that of the trial."""
        difference = trial.effect.score.difference
        return self._fall(trial) - (difference.high - difference.value)

    def _allowed(self, trial: Trial) -> float:
        """The scale at which all limits are kept, that of fluency too."""
        return at_limit(trial.scale, max(self._used(trial), _LEAST_SHARE))

    def _used(self, trial: Trial) -> float:
        """How much of the limit that is likely to be used up most."""
        return used(self._limits, trial.likely_damage)

    def final(self, contender: Trial, meter: DamageMeter) -> list[Trial]:
        """Scale a candidate with care and try it on more prompts, at smaller scales too where its
        text turns out not to be fluent; generated text comes last, so only then can that show."""
        candidate = contender.candidate
        fluency = fluency_used(self._limits, contender.likely_damage)
        begun = time.monotonic()
        tried: list[Trial] = []
        try:
            with progress.step("scale", 0.2):
                scale, damage = self._fitted(
                    meter,
                    candidate,
                    guess=self._allowed(contender),
                    fluency=fluency / contender.scale**GROWTH,
                )
            with progress.step("text", 0.8 / _SCALES):
                tried.append(self._tried(candidate, scale, meter, damage=damage, begun=begun))
            while len(tried) < _SCALES and tried[-1].effect.gains:
                if self._used(tried[-1]) <= _ACCEPTED:
                    break
                with progress.step("text", 0.8 / _SCALES):
                    tried.append(self._tried(candidate, self._allowed(tried[-1]), meter))
        except EditFailed as error:
            if not tried:  # on these texts it gives no numbers any more
                self.broken.append(candidate)
            self.skipped.append(f"{candidate.label}, on more texts: {error.message}")
        self.trials += tried
        return tried

    def winner(self, finals: Sequence[Trial], meter: DamageMeter) -> Trial | None:
        """The preferred of the trials that also keeps the limits on what users notice, which takes
        longest to measure. One that does not is tried at smaller scales, as few as in a final;
        where none is left, at much smaller ones."""
        eligible = [trial for trial in finals if trial.eligible]
        tries = Counter(trial.candidate for trial in finals)
        while eligible:
            best = max(eligible, key=self.preference)
            eligible.remove(best)
            candidate = best.candidate
            try:
                checked = self._validation.with_generation_figures(best, meter)
                self.trials[self.trials.index(best)] = checked
                if checked.eligible:
                    return checked
                if tries[candidate] < _SCALES:
                    tries[candidate] += 1
                    again = self._tried(candidate, self._allowed(checked), meter)
                    self.trials.append(again)
                    eligible += [again] if again.eligible else []
            except EditFailed as error:
                self.skipped.append(f"{candidate.label}, in long texts: {error.message}")
        return self._halved(finals, meter)

    def _halved(self, finals: Sequence[Trial], meter: DamageMeter) -> Trial | None:
        """The most promising that keeps all limits at a scale that is halved often enough."""
        possible = [trial for trial in finals if not trial.effect.contradicts]
        possible.sort(key=self._promise, reverse=True)
        for candidate in dict.fromkeys(trial.candidate for trial in possible):
            scale = min(trial.scale for trial in self.trials if trial.candidate is candidate)
            for _ in range(_HALVINGS):
                scale /= 2
                try:
                    trial = self._tried(candidate, scale, meter)
                    if trial.eligible:
                        trial = self._validation.with_generation_figures(trial, meter)
                except EditFailed as error:
                    self.skipped.append(f"{candidate.label}, scaled down: {error.message}")
                    break
                self.trials.append(trial)
                if trial.eligible:
                    return trial
        return None

    def _tried(
        self,
        candidate: FittedEdit,
        scale: float,
        meter: DamageMeter,
        *,
        damage: PointDamage | None = None,
        begun: float | None = None,
    ) -> Trial:
        """A candidate at a scale on the prompts of a final; `damage` where it is measured already,
        by work that `begun` at that time."""
        begun = time.monotonic() if begun is None else begun
        damage = damage or meter.quick(candidate.terms, scale)
        entry = self._validation.entry(candidate, scale, damage)
        entry = replace(entry, seconds=time.monotonic() - begun)
        prompts = self._number(self._budget.final_prompts)
        (entry,) = self._validation.generate([entry], prompts)
        return self._validation.trial(entry, meter)

    def _fitted(
        self, meter: DamageMeter, candidate: FittedEdit, *, guess: float, fluency: float
    ) -> tuple[float, PointDamage]:
        """The scale that uses up what it may; `guess` where none is found, beyond a limit."""
        try:
            return fitted_to_limits(
                meter,
                candidate,
                self._limits,
                guess=guess,
                target=_TARGET,
                tolerance=_TOLERANCE,
                max_steps=_STEPS,
                fluency=fluency,
            )
        except EditFailed:
            return guess, meter.quick(candidate.terms, guess)

    def _candidate(self, recipe: Recipe, meter: DamageMeter) -> FittedEdit:
        """The candidate of a recipe; the methods of a pair are calibrated on their own first."""
        one, *other = (self._made(method) for method in recipe.methods)
        if not other:
            return one
        scales = []
        for method, part, share in zip(recipe.methods, (one, *other), recipe.shares, strict=True):
            if method not in self._alone:
                calibration = calibrated(
                    meter, part, self._limits, tolerance=_COARSE_TOLERANCE, max_steps=_STEPS
                )
                self._alone[method] = self._at_limit(calibration.scale, calibration.kl)
            scales.append(share * self._alone[method])
        # As if either did not feel the other.
        guess = 1 / math.hypot(*recipe.shares)
        return replace(pair(one, other[0], (scales[0], scales[1]), guess=guess), label=recipe.label)

    def _at_limit(self, scale: float, kl: float) -> float:
        """The scale with the KL that is allowed: a KL grows as the square of the scale. Where
        there is none at all, `scale` itself."""
        return scale * math.sqrt(kl_target(self._limits) / kl) if kl > 0 else scale

    def _made(self, method: FixedMethod) -> FittedEdit:
        """What was made of a method; raises why nothing was."""
        failure = self._prepared.failures.get(method)
        if failure is not None:
            raise failure
        return self._prepared.made[method]

    def _number(self, prompts: int | None) -> int:
        there = len(self._validation.prompts)
        return there if prompts is None else min(prompts, there)


def _fall_at(step: float, base: float, edited: float) -> float:
    """By how much a mean score falls at so many times the scale: what is left of it decays."""
    if not 0 < edited < base:
        return step * (base - edited)
    left: float = (edited / base) ** step
    return base * (1 - left)


def _surely_less(falls: Floats, leader: Floats) -> bool:
    """Whether prompt by prompt the leader's scores fall by more, beyond chance."""
    differences = leader - falls
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences)) if len(falls) > 1 else 0.0
    return float(differences.mean()) > _SURELY * error
