"""Paired changes over prompts, p-values and Holm's adjustment, against slow versions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.quality.statistics import (
    Cells,
    Column,
    against_zero,
    by_name,
    change,
    columns,
    holm,
    mean_harm,
    paired,
)
from tests.benchmarks.rows import HARM, rates, row, sheet
from workers.evaluation.statistics import Bootstrap, Floats

COLUMN = Column("test", "tfidf")


def _stepwise(ps: list[float], level: float) -> list[bool]:
    """Which hypotheses Holm's procedure rejects, as it is told step by step."""
    rejected = [False] * len(ps)
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    for step, index in enumerate(order):
        if ps[index] * (len(ps) - step) > level:
            break
        rejected[index] = True
    return rejected


@given(
    st.lists(st.sampled_from([0.001, 0.004, 0.01, 0.02, 0.04, 0.3, 1.0]), min_size=1, max_size=8),
    st.sampled_from([0.01, 0.05, 0.2]),
)
def test_adjusted_p_values_reject_what_holms_procedure_rejects(
    ps: list[float], level: float
) -> None:
    assert [adjusted <= level for adjusted in holm(ps)] == _stepwise(ps, level)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_every_prompt_weighs_alike_against_the_base_of_the_same_seed() -> None:
    base = [row("base", {"a": 1, "b": 0}, seed=0), row("base", {"b": 1, "c": 1}, seed=1)]
    arm = [row("bias", {"a": 0, "b": 0}, seed=0), row("bias", {"b": 0, "c": 1}, seed=1)]
    cells = paired(arm, base, COLUMN, "rate")
    assert cells is not None
    assert cells.seeds.tolist() == [0, 0, 1, 1]
    assert cells.clusters.tolist() == [0, 1, 1, 2]
    assert cells.edited.tolist() == [0, 0, 0, 1]
    assert cells.base.tolist() == [1, 0, 1, 1]
    assert (6 * cells.weights).tolist() == pytest.approx([2, 1, 1, 2])
    found = change(arm, base, COLUMN)
    assert found is not None
    assert found.prompts == 3
    assert found.difference.value == pytest.approx((-1 - 0.5 + 0) / 3)
    assert found.relative == pytest.approx(-0.6)


def test_prompts_of_one_template_are_one_cluster() -> None:
    sheets = {"test": sheet(rates(1, 1, 0)).model_copy(update={"clusters": ("x", "y", "x")})}
    arm = row("bias", sheets=sheets)
    cells = paired([arm], [row("base", rates(1, 1, 1))], COLUMN, "rate")
    assert cells is not None
    assert cells.clusters.tolist() == [0, 1, 0]


def test_a_seed_without_its_base_does_not_count() -> None:
    arm = [row("bias", rates(0, 0), seed=0), row("bias", rates(1, 1), seed=1)]
    cells = paired(arm, [row("base", rates(1, 1), seed=0)], COLUMN, "rate")
    assert cells is not None
    assert cells.edited.tolist() == [0, 0]
    assert change(arm[1:], [row("base", rates(1, 1))], COLUMN) is None


def test_draws_of_one_arm_are_averaged_like_seeds() -> None:
    rows = [
        row("base", rates(1, 1)),
        row("random_direction/1", rates(0, 1)),
        row("random_direction/2", rates(1, 1)),
        row("ablation", failed="no layer"),
    ]
    named = by_name(rows)
    assert list(named) == ["base", "random_direction"]
    found = change(named["random_direction"], named["base"], COLUMN)
    assert found is not None
    assert found.difference.value == pytest.approx(-0.25)


def _cells(differences: Floats, clusters: Sequence[int] = ()) -> Cells:
    """Of `[seeds, prompts]`, the same prompts in every seed."""
    seeds, prompts = differences.shape
    return Cells(
        seeds=np.repeat(np.arange(seeds), prompts),
        clusters=np.tile(clusters or np.arange(prompts), seeds),
        weights=np.full(differences.size, 1 / differences.size),
        edited=differences.ravel(),
        base=np.zeros(differences.size),
        prompts=prompts,
    )


def test_a_p_value_is_small_for_a_large_effect_and_one_for_none() -> None:
    _, nothing = against_zero(_cells(np.zeros((1, 30))), 0)
    _, all_fall = against_zero(_cells(-np.ones((1, 30))), 0)
    assert nothing == 1.0
    assert all_fall < 0.002
    rng = np.random.default_rng(0)
    found, p = against_zero(_cells(rng.normal(-0.5, 1.0, (1, 200))), 0)
    assert p < 0.05
    assert found.high < 0


def test_one_seed_has_the_interval_of_its_prompts() -> None:
    values = np.random.default_rng(1).normal(-0.1, 1.0, (1, 20))
    found, _ = against_zero(_cells(values), 0)
    plain = Bootstrap(0).mean(values[0])
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.02)
    clustered, _ = against_zero(_cells(values, [number // 4 for number in range(20)]), 0)
    assert clustered != found


@settings(max_examples=40)
@given(st.integers(1, 4), st.integers(8, 40), st.floats(-1.5, 1.5), st.integers(0, 1000))
def test_p_is_below_5_percent_where_the_interval_excludes_zero(
    seeds: int, prompts: int, effect: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(effect * prompts**-0.5 * 2, 1, (1, prompts))
    values = values + 0.3 * rng.normal(size=(seeds, 1)) + rng.normal(size=(seeds, prompts))
    found, p = against_zero(_cells(values), 0, 2000)
    if abs(p - 0.05) > 0.005:
        assert (p < 0.05) == (not found.low <= 0 <= found.high)


@pytest.mark.parametrize(("of_seeds", "of_prompts"), [(0.0, 1.0), (0.3, 1.0), (0.5, 0.1)])
def test_where_nothing_changes_three_seeds_say_so_nineteen_times_in_twenty(
    of_seeds: float, of_prompts: float
) -> None:
    rng = np.random.default_rng(0)
    outside = 0
    for _ in range(150):
        values = of_seeds * rng.normal(size=(3, 1)) + of_prompts * rng.normal(size=(1, 40))
        values = values + rng.normal(size=(3, 40))
        outside += against_zero(_cells(values), 0, 500)[1] < 0.05
    assert outside <= 0.1 * 150


def test_harm_is_averaged_where_it_was_measured() -> None:
    rows = [
        row("bias", harm=HARM.model_copy(update={"kl": 0.1, "domain": None})),
        row("bias", harm=HARM.model_copy(update={"kl": 0.2, "domain": 0.3})),
    ]
    found = mean_harm(rows)
    assert found.kl == pytest.approx(0.15)
    assert found.domain == pytest.approx(0.3)
    assert found.loops is None


def test_domain_damage_of_two_sources_is_never_averaged() -> None:
    rows = [
        row("bias", harm=HARM.model_copy(update={"domain": domain, "domain_source": source}))
        for domain, source in ((0.1, "samples"), (0.5, "heldout"), (0.3, "samples"))
    ]
    found = mean_harm(rows)
    assert (found.domain, found.domain_source) == (0.5, "heldout")
    found = mean_harm(rows[::2])
    assert (found.domain, found.domain_source) == (pytest.approx(0.2), "samples")


def test_the_leading_scorer_comes_first() -> None:
    assert columns([row("base", rates(1))]) == [COLUMN, Column("test", "vader")]
