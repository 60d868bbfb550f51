"""How far a search scales candidates, where what each scale costs is known."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import cast

import pytest

from models_store.errors import EditFailed
from models_store.schemas.measurements import PointDamage
from models_store.schemas.methods import FixedMethod, Limits
from models_store.schemas.report import ProbeReport
from tests.workers.making.test_tuning import candidate, damage, trial
from workers.evaluation.context.budget import Budget
from workers.evaluation.damage.damage import REPORTED, SEARCHED, DamagePlan
from workers.evaluation.damage.limits import exceeded
from workers.evaluation.estimate.estimate import Features
from workers.making.fitting.fitting import Prepared
from workers.making.search.points import points_of, search_report
from workers.making.search.recipes import Recipe
from workers.making.search.search import SearchResult, search
from workers.making.search.tuning import used
from workers.making.search.validation import Trial, Validation
from workers.surgery.fitted import FittedEdit
from workers.surgery.methods.bias import Bias

LIMITS = Limits(max_kl=0.1, max_fluency=0.25)


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
    """The scale below which nothing is gained."""
    seen: list[FittedEdit] = field(default_factory=list)
    harder: float = 1.0
    """Fluency on all prompts, as a multiple of that on the first ones."""
    falls: bool = False
    """On all prompts text is not fluent, at any scale."""
    breaks: bool = False
    """On the texts of finals the model gives no numbers."""
    unsure: float = 0.0
    """By how much the lower bound of the gain is less."""

    def meter(self, plan: DamagePlan) -> Meter:
        fine = plan is REPORTED
        return Meter(self.fine if fine else 1.0, breaks=fine and self.breaks)

    def try_out(
        self, found: FittedEdit, scale: float, so_far: PointDamage, *_: object, prompts: int
    ) -> Trial:
        fluency = LIMITS.max_fluency * (scale / self.fluent) ** 2
        if prompts > 40:
            fluency = 2 * LIMITS.max_fluency if self.falls else self.harder * fluency
        if found not in self.seen:
            self.seen.append(found)
        place = self.seen.index(found)
        gain = self.gain * scale * (1 - self.fade * place if place else self.lead)
        if scale < self.least:
            gain = -0.3
        full = so_far.model_copy(update={"fluency": fluency})
        over = exceeded(LIMITS, full)
        return replace(
            trial(high=self.unsure - gain, score=self.unsure - gain),
            candidate=found,
            scale=scale,
            damage=full,
            exceeded=over,
            prompts=prompts,
        )


@dataclass
class Meter:
    share: float
    breaks: bool = False

    def kl(self, terms: object, scale: float) -> float:
        return math.inf if self.breaks else self.share * 0.1 * scale**2

    def quick(self, terms: object, scale: float) -> PointDamage:
        if self.breaks:
            raise EditFailed("not finite")
        return damage(kl=self.kl(terms, scale), perplexity_ratio=1.0)


def searched(costs: Costs, *, finalists: int, candidates: int = 1) -> SearchResult:
    methods: list[FixedMethod] = [Bias(layers=(layer,)) for layer in range(candidates)]
    validation = SimpleNamespace(
        context=SimpleNamespace(limits=LIMITS),
        prompts=range(100),
        meter=costs.meter,
        try_out=costs.try_out,
    )
    made = {method: candidate() for method in methods}
    prepared = Prepared(made, {}, cast(ProbeReport, None), None, cast(Features, None))
    budget = Budget(None, 40, finalists=finalists, final_prompts=None, damage=SEARCHED)
    recipes = [Recipe((method,), (1.0,)) for method in methods]
    return search(cast(Validation, validation), recipes, prepared, budget)


def test_one_scale_is_enough_where_the_text_stays_fluent() -> None:
    found = searched(Costs(fluent=3.0), finalists=0)
    assert found.winner is not None
    assert [one.scale for one in found.trials] == [pytest.approx(0.875**0.5, rel=0.04)]


def test_the_scale_goes_down_until_the_text_is_fluent() -> None:
    found = searched(Costs(fluent=0.5), finalists=0)
    scales = [one.scale for one in found.trials]
    assert 1 < len(scales) <= 3
    assert scales == sorted(scales, reverse=True)
    assert [used(LIMITS, one.damage) > 0.945 for one in found.trials[:-1]] == [True] * (
        len(scales) - 1
    )
    assert used(LIMITS, found.trials[-1].damage) < 0.945
    assert found.winner is found.trials[-1]


def test_smaller_scales_are_for_those_that_come_to_the_final() -> None:
    found = searched(Costs(fluent=0.5, fade=0.1), finalists=1, candidates=6)
    first = [one for one in found.trials if one.prompts == 40]
    tries = Counter(id(one.candidate) for one in first)
    # What is behind the leader beyond a limit is left there.
    assert [number > 1 for number in tries.values()] == [True] + [False] * 5
    assert found.winner is not None
    assert found.winner.candidate is first[0].candidate


def test_smaller_scales_go_on_while_nobody_stands_the_final() -> None:
    found = searched(Costs(fluent=0.5, fade=0.1, falls=True), finalists=1, candidates=6)
    tries = Counter(id(one.candidate) for one in found.trials if one.prompts == 40)
    assert sum(number > 1 for number in tries.values()) == 2


def test_a_final_counts_at_any_of_its_scales() -> None:
    found = searched(Costs(fluent=1.023, harder=1.2, least=0.9), finalists=1)
    kept = found.winner
    assert kept is not None
    assert kept.prompts == 100
    # Close to a limit, and no smaller scale gains.
    assert 0.945 < used(LIMITS, kept.damage) < 1
    assert found.trials[-1].scale < kept.scale


def test_where_there_is_no_final_all_are_brought_within_the_limits() -> None:
    found = searched(Costs(fluent=0.5, lead=3.0), finalists=0, candidates=6)
    within = {id(one.candidate) for one in found.trials if one.eligible}
    assert len(within) == 6


def test_what_leaves_room_to_a_limit_is_preferred_to_what_gains_more() -> None:
    found = searched(Costs(fluent=0.925), finalists=0)
    close, roomy = found.trials
    assert 0.945 < used(LIMITS, close.damage) < 1
    assert used(LIMITS, roomy.damage) < 0.945
    assert close.rank > roomy.rank
    assert found.winner is roomy


def test_room_to_a_limit_is_no_merit_of_what_may_not_gain() -> None:
    found = searched(Costs(fluent=0.925, unsure=0.15), finalists=0)
    close, roomy = found.trials
    assert not close.exceeded
    assert not roomy.exceeded
    assert close.rank > roomy.rank
    assert found.winner is close


def test_no_point_of_a_search_that_found_nothing_is_selected() -> None:
    failed = searched(Costs(fluent=3.0, falls=True), finalists=1, candidates=3)
    assert failed.winner is None
    assert failed.best in failed.trials
    assert [point.selected for point in points_of(failed)] == [False] * len(failed.trials)
    assert not any(row.selected for row in search_report(failed, 100).candidates)
    good = searched(Costs(fluent=3.0), finalists=0, candidates=2)
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
    found = searched(Costs(fluent=0.925, lead=3.0), finalists=2, candidates=3)
    finals = {id(one.candidate) for one in found.trials if one.prompts == 100}
    assert len(finals) == 2


def test_an_edit_that_does_nothing_is_tried_at_one_scale() -> None:
    found = searched(Costs(fluent=0.5, gain=-0.3), finalists=0)
    assert len(found.trials) == 1
    assert found.winner is None


def test_a_final_is_not_scaled_beyond_what_fluency_allows() -> None:
    costs = Costs(fluent=0.5, fine=0.5)  # its KL alone would let it grow
    found = searched(costs, finalists=1)
    assert found.winner is not None
    assert found.winner.prompts == 100
    assert found.winner.scale < costs.fluent
    # The first trials stay points, beside those of the final.
    assert [one.prompts for one in found.trials] == sorted(one.prompts for one in found.trials)
    assert {one.prompts for one in found.trials} == {40, 100}


def test_a_final_grows_where_its_texts_let_it() -> None:
    found = searched(Costs(fluent=3.0, fine=0.5), finalists=1)
    assert found.winner is not None
    assert found.winner.damage.kl == pytest.approx(0.0875, rel=0.08)
    assert found.winner.scale == pytest.approx((0.875 / 0.5) ** 0.5, rel=0.04)


def test_a_final_that_nobody_stands_ends() -> None:
    costs = Costs(fluent=3.0, falls=True)
    found = searched(costs, finalists=2, candidates=9)
    finals = [one for one in found.trials if one.prompts == 100]
    assert found.winner is None
    # Two for each place, each at no more than three scales.
    assert len(found.trials) - len(finals) == 9
    assert 4 <= len(finals) <= 12
