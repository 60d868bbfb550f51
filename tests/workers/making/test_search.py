"""How far a search scales candidates, where what each scale costs is known."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from models_store.errors import EditFailed
from models_store.schemas.measurements import PointDamage
from models_store.schemas.methods import FixedMethod, Limits
from tests.app.support.sample_report import effect
from tests.workers.making.test_tuning import candidate, damage, trial
from workers.evaluation.context.budget import Budget
from workers.evaluation.damage.damage import REPORTED, SEARCHED, DamagePlan
from workers.evaluation.damage.limits import exceeded
from workers.evaluation.effect.generations import Arm
from workers.evaluation.statistics import Floats
from workers.making.fitting.fitting import Prepared
from workers.making.search.points import points_of, search_report
from workers.making.search.recipes import Recipe
from workers.making.search.search import SearchResult, search
from workers.making.search.tuning import KL_ROOM, used
from workers.making.search.validation import Entry, Trial, Validation
from workers.surgery.fitted import FittedEdit
from workers.surgery.methods.bias import Bias

LIMITS = Limits(max_kl=0.1 / KL_ROOM, max_fluency=0.25)


@dataclass
class Costs:
    """A model of which all damage follows from the scale."""

    fluent: float
    """The scale at which text reaches the limit of fluency."""
    fine: float = 1.0
    """KL on the texts of finals, as a share of that on the texts of first trials."""
    gain: float = 0.1
    """At scale 1; it grows with the scale."""
    lead: float = 1.0
    """How many times as much the first candidate gains."""
    fade: float = 0.0
    """By how much of the gain each candidate has less than the one before it."""
    least: float = 0.0
    """The scale below which nothing is gained on all prompts."""
    seen: list[FittedEdit] = field(default_factory=list)
    harder: float = 1.0
    """Fluency on all prompts, as a multiple of that on the first ones."""
    falls_out: bool = False
    """On all prompts text is not fluent, at any scale."""
    breaks: bool = False
    """On the texts of finals the model gives no numbers."""
    noise: float = 0.0
    """Of the scores of each prompt."""
    fluency_error: float = 0.0
    unsure: float = 0.0
    """By how much the lower bound of the gain is less."""
    loops: float = 0.0
    """Rise of the share of long texts that loop, at scale 1; it grows with the scale."""
    in_long_texts: list[Trial] = field(default_factory=list)
    """Trials that wrote long texts."""

    def meter(self, plan: DamagePlan) -> Meter:
        assert plan is REPORTED
        return Meter(self.fine, breaks=self.breaks)

    def entry(self, found: FittedEdit, scale: float, so_far: PointDamage) -> Entry:
        if found not in self.seen:
            self.seen.append(found)
        return Entry(found, scale, so_far, Arm((), (), ()), np.zeros((0, 1)))

    def generate(self, entries: Sequence[Entry], prompts: int) -> list[Entry]:
        return [self._generated(entry, prompts) for entry in entries]

    def _generated(self, entry: Entry, prompts: int) -> Entry:
        place = self.seen.index(entry.candidate)
        gain = self.gain * entry.scale * (1 - self.fade * place if place else self.lead)
        if entry.scale < self.least and prompts > 40:
            gain = -0.3
        noise = np.random.default_rng(place).normal(size=(prompts, 1))
        noise -= noise.mean()
        return replace(entry, scores=-gain + self.noise * noise)

    def falls(self, entry: Entry) -> Floats:
        falls: Floats = -entry.scores.mean(axis=1)
        return falls

    def trial(self, entry: Entry, meter: Meter) -> Trial:
        fluency = LIMITS.max_fluency * (entry.scale / self.fluent) ** 2
        if entry.prompts > 40:
            fluency = 2 * LIMITS.max_fluency if self.falls_out else self.harder * fluency
        full = entry.damage.model_copy(update={"fluency": fluency})
        change = float(entry.scores.mean())
        made = trial(high=self.unsure + change, score=self.unsure + change)
        score = made.effect.score.model_copy(update={"base": 0.5, "edited": 0.5 + change})
        return replace(
            made,
            effect=made.effect.model_copy(update={"score": score}),
            candidate=entry.candidate,
            scale=entry.scale,
            damage=full,
            fluency_error=self.fluency_error,
            exceeded=exceeded(LIMITS, full),
            prompts=entry.prompts,
        )

    def with_generation_figures(self, trial: Trial, meter: Meter) -> Trial:
        self.in_long_texts.append(trial)
        full = trial.damage.model_copy(update={"loops": self.loops * trial.scale})
        return replace(trial, damage=full, exceeded=exceeded(LIMITS, full))


@dataclass
class Meter:
    share: float
    breaks: bool = False
    share_of_fewer: float = 1.0

    def fewer(self, plan: DamagePlan) -> Meter:
        assert plan is SEARCHED
        return Meter(self.share_of_fewer)

    def kl(self, terms: object, scale: float) -> float:
        return math.inf if self.breaks else self.share * 0.1 * scale**2

    def quick(self, terms: object, scale: float) -> PointDamage:
        if self.breaks:
            raise EditFailed("not finite")
        return damage(kl=self.kl(terms, scale), perplexity_ratio=1.0)


def searched(
    costs: Costs, *, finalists: int = 1, candidates: int = 1, pair: bool = False
) -> SearchResult:
    methods: list[FixedMethod] = [Bias(layers=(layer,)) for layer in range(candidates)]
    validation = SimpleNamespace(
        prompts=range(100),
        context=SimpleNamespace(limits=LIMITS),
        meter=costs.meter,
        entry=costs.entry,
        generate=costs.generate,
        falls=costs.falls,
        trial=costs.trial,
        with_generation_figures=costs.with_generation_figures,
    )
    made = {method: candidate() for method in methods}
    prepared = Prepared(made, {}, None, None, None)
    budget = Budget(None, 40, finalists=finalists, final_prompts=None, damage=SEARCHED)
    recipes = [Recipe((method,), (1.0,)) for method in methods]
    if pair:
        recipes = [Recipe((methods[0], methods[1]), (0.5, 1.0))]
    return search(cast(Validation, validation), recipes, prepared, budget)


def finals_of(found: SearchResult) -> list[Trial]:
    return [one for one in found.trials if one.prompts == 100]


def test_one_scale_is_enough_where_the_text_stays_fluent() -> None:
    found = searched(Costs(fluent=3.0))
    assert found.winner is not None
    assert [one.scale for one in finals_of(found)] == [pytest.approx(0.875**0.5, rel=0.04)]


def test_the_scale_goes_down_until_the_text_is_fluent() -> None:
    found = searched(Costs(fluent=0.5, harder=2.5))
    finals = finals_of(found)
    scales = [one.scale for one in finals]
    assert 1 < len(scales) <= 3
    assert scales == sorted(scales, reverse=True)
    assert [used(LIMITS, one.damage) > 0.945 for one in finals[:-1]] == [True] * (len(scales) - 1)
    assert used(LIMITS, finals[-1].damage) < 0.945
    assert found.winner is finals[-1]


def test_the_scale_goes_down_until_long_texts_no_longer_loop() -> None:
    costs = Costs(fluent=3.0, loops=0.35)
    found = searched(costs)
    loops = [one.damage.loops for one in finals_of(found)]
    assert loops[0] > LIMITS.max_loops
    assert found.winner is not None
    assert found.winner.damage.loops == min(loops) < LIMITS.max_loops


def test_no_edit_is_chosen_whose_long_texts_loop() -> None:
    class Stuck(Costs):
        def with_generation_figures(self, trial: Trial, meter: Meter) -> Trial:
            """At any scale."""
            full = trial.damage.model_copy(update={"loops": 0.5})
            return replace(trial, damage=full, exceeded=exceeded(LIMITS, full))

    found = searched(Stuck(fluent=3.0), candidates=3)
    assert found.winner is None
    assert {one.exceeded for one in finals_of(found)} == {("max_loops",)}


def test_long_texts_are_written_for_the_preferred_trial_alone() -> None:
    costs = Costs(fluent=3.0)
    found = searched(costs, candidates=3, finalists=3)
    assert len(finals_of(found)) == 3
    assert [one.scale for one in costs.in_long_texts] == [found.winner and found.winner.scale]


def test_what_is_surely_behind_leaves_the_race_after_a_block() -> None:
    found = searched(Costs(fluent=3.0, fade=0.1), candidates=6)
    # Two for the one place in the final stay in any case.
    assert Counter(one.prompts for one in found.trials) == {20: 4, 40: 2, 100: 1}
    assert found.winner is not None
    best = max(found.trials, key=lambda one: one.rank)
    assert found.winner.candidate is best.candidate


def test_nobody_leaves_the_race_by_chance() -> None:
    found = searched(Costs(fluent=3.0, fade=0.1, noise=1.0), candidates=6)
    assert Counter(one.prompts for one in found.trials) == {40: 6, 100: 1}


def test_those_that_use_less_of_the_limits_are_not_behind_for_that() -> None:
    class Uneven(Costs):
        def entry(self, found: FittedEdit, scale: float, so_far: PointDamage) -> Entry:
            """Every second one is at 0.8 of its scale."""
            small = len(self.seen) % 2 == 1
            factor = 0.8 if small else 1.0
            changed = so_far.model_copy(update={"kl": so_far.kl * factor**1.5})
            return super().entry(found, scale * factor, changed)

    found = searched(Uneven(fluent=3.0, noise=0.02), candidates=6)
    assert Counter(one.prompts for one in found.trials if one.prompts < 100) == {40: 6}


def test_the_next_one_comes_to_the_final_while_nobody_stands_it() -> None:
    found = searched(Costs(fluent=0.5, fade=0.1, falls_out=True), candidates=6)
    tried = Counter(id(one.candidate) for one in finals_of(found))
    assert len(tried) == 2
    assert found.winner is None
    # At three scales at most in the final, and then at half of the smallest, four times.
    assert max(tried.values()) <= 3 + 4


def test_a_final_counts_at_any_of_its_scales() -> None:
    found = searched(Costs(fluent=0.95, least=0.9))
    kept = found.winner
    assert kept is not None
    assert kept.prompts == 100
    # Close to a limit, and no smaller scale gains.
    assert 0.945 < used(LIMITS, kept.damage) < 1
    assert found.trials[-1].scale < kept.scale


def test_what_leaves_room_to_a_limit_is_preferred_to_what_gains_more() -> None:
    found = searched(Costs(fluent=0.95))
    close, roomy = finals_of(found)
    assert 0.945 < used(LIMITS, close.damage) < 1
    assert used(LIMITS, roomy.damage) < 0.945
    assert close.rank > roomy.rank
    assert found.winner is roomy


def test_fluency_has_room_where_it_may_be_small_by_chance() -> None:
    sure, unsure = (searched(Costs(fluent=1.0, fluency_error=error)).winner for error in (0, 0.08))
    assert sure is not None
    assert unsure is not None
    assert used(LIMITS, unsure.likely_damage) < 0.945
    assert unsure.damage.fluency < 0.945 * LIMITS.max_fluency - 0.08 < sure.damage.fluency


def test_no_point_of_a_search_that_found_nothing_is_selected() -> None:
    failed = searched(Costs(fluent=3.0, falls_out=True), finalists=1, candidates=3)
    assert failed.winner is None
    assert failed.best in failed.trials
    assert [point.selected for point in points_of(failed)] == [False] * len(failed.trials)
    assert not any(row.selected for row in search_report(failed, 100).candidates)
    good = searched(Costs(fluent=3.0), candidates=2)
    selected = [point.index for point in points_of(good) if point.selected]
    assert [good.trials[index] for index in selected] == [good.winner]
    assert [row.index for row in search_report(good, 100).candidates if row.selected] == selected


def test_a_final_that_gives_no_numbers_does_not_end_the_search() -> None:
    found = searched(Costs(fluent=3.0, breaks=True), finalists=1, candidates=3)
    assert found.winner is None
    assert len(found.skipped) == 2
    assert all("on more texts: not finite" in reason for reason in found.skipped)
    # What is told of a search that found nothing is measured on such texts too.
    assert found.best.candidate not in found.broken


def test_no_two_scales_of_a_candidate_take_two_places_of_a_final() -> None:
    found = searched(Costs(fluent=0.95, lead=3.0), finalists=2, candidates=3)
    assert len({id(one.candidate) for one in finals_of(found)}) == 2


def test_an_edit_that_surely_does_the_opposite_comes_to_no_final() -> None:
    found = searched(Costs(fluent=0.5, gain=-0.3))
    assert len(found.trials) == 1
    assert found.winner is None


def test_a_final_is_not_scaled_beyond_what_fluency_allows() -> None:
    costs = Costs(fluent=0.5, fine=0.5)  # its KL alone would let it grow
    found = searched(costs)
    assert found.winner is not None
    assert found.winner.prompts == 100
    assert found.winner.scale < costs.fluent
    # The entries of the race stay points, beside those of the final.
    assert [one.prompts for one in found.trials] == sorted(one.prompts for one in found.trials)
    assert {one.prompts for one in found.trials} == {40, 100}


def test_a_final_grows_where_its_texts_let_it() -> None:
    found = searched(Costs(fluent=3.0, fine=0.5))
    assert found.winner is not None
    assert found.winner.damage.kl == pytest.approx(0.0875, rel=0.08)
    assert found.winner.scale == pytest.approx((0.875 / 0.5) ** 0.5, rel=0.04)


def test_a_final_that_nobody_stands_ends() -> None:
    costs = Costs(fluent=3.0, falls_out=True)
    found = searched(costs, finalists=2, candidates=9)
    finals = finals_of(found)
    assert found.winner is None
    # Two for each place, each at no more than three scales, and then at half of them four times.
    assert len(found.trials) - len(finals) == 9
    assert 4 * (1 + 4) <= len(finals) <= 4 * (3 + 4)


def test_where_no_final_keeps_the_limits_the_most_promising_is_scaled_down_until_it_does() -> None:
    found = searched(Costs(fluent=0.5, harder=40.0), candidates=3)
    assert found.winner is not None
    assert not found.winner.exceeded
    assert found.winner.damage.loops is not None
    assert found.winner.scale == min(one.scale for one in finals_of(found))


def test_an_edit_of_which_a_search_does_not_know_whether_it_gains_is_left_to_the_test() -> None:
    class Unclear(Costs):
        def trial(self, entry: Entry, meter: Meter) -> Trial:
            """The rate is a little higher, and may be lower."""
            made = super().trial(entry, meter)
            return replace(made, effect=effect("tfidf", 0.5, 0.52))

    found = searched(Unclear(fluent=3.0))
    assert found.winner is not None
    assert not found.winner.effect.gains


def test_what_is_not_fluent_does_not_lead_the_race_by_that() -> None:
    class OneUnfluent(Costs):
        def trial(self, entry: Entry, meter: Meter) -> Trial:
            """The first candidate gains the most, and its text is hardly fluent."""
            made = super().trial(entry, meter)
            if self.seen.index(entry.candidate):
                return made
            figures = made.damage.model_copy(update={"fluency": 4 * LIMITS.max_fluency})
            return replace(made, damage=figures, exceeded=exceeded(LIMITS, figures))

    found = searched(OneUnfluent(fluent=3.0, lead=1.5), candidates=6)
    assert found.winner is not None
    first = found.trials[[one.prompts for one in found.trials].index(100)]
    assert found.winner is first
    assert found.winner.damage.fluency < LIMITS.max_fluency


def test_a_pair_that_neutral_text_does_not_feel_is_tried_all_the_same() -> None:
    class Unfelt(Costs):
        def meter(self, plan: DamagePlan) -> Meter:
            return Meter(0.0, share_of_fewer=0.0)

    found = searched(Unfelt(fluent=1e9), candidates=2, pair=True)
    assert found.winner is not None
    assert found.winner.damage.kl == 0
