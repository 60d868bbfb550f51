"""Paired changes over prompts, p-values and Holm's adjustment, against slow versions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.quality.statistics import (
    Column,
    against_zero,
    by_name,
    change,
    columns,
    holm,
    mean_harm,
    paired,
)
from tests.benchmarks.rows import HARM, rates, row
from workers.evaluation.statistics import Bootstrap

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


def test_seeds_are_averaged_for_each_prompt_against_the_base_of_the_same_seed() -> None:
    base = [row("base", {"a": 1, "b": 0}, seed=0), row("base", {"b": 1, "c": 1}, seed=1)]
    arm = [row("bias", {"a": 0, "b": 0}, seed=0), row("bias", {"b": 0, "c": 1}, seed=1)]
    after, before = paired(arm, base, COLUMN, "rate")
    assert after == {"a": 0, "b": 0, "c": 1}
    assert before == {"a": 1, "b": 0.5, "c": 1}
    found = change(arm, base, COLUMN)
    assert found is not None
    assert found.prompts == 3
    assert found.difference.value == pytest.approx((-1 - 0.5 + 0) / 3)
    assert found.relative == pytest.approx(-0.6)


def test_a_seed_without_its_base_does_not_count() -> None:
    arm = [row("bias", rates(0, 0), seed=0), row("bias", rates(1, 1), seed=1)]
    after, _ = paired(arm, [row("base", rates(1, 1), seed=0)], COLUMN, "rate")
    assert after == {"p0": 0, "p1": 0}
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


def test_a_p_value_is_small_for_a_large_effect_and_one_for_none() -> None:
    bootstrap = Bootstrap(0, 999)
    _, nothing = against_zero(np.zeros(30), bootstrap)
    _, all_fall = against_zero(-np.ones(30), bootstrap)
    assert nothing == 1.0
    assert all_fall == pytest.approx(2 / 1000)
    rng = np.random.default_rng(0)
    interval, p = against_zero(rng.normal(-0.5, 1.0, 200), bootstrap)
    assert p < 0.05
    assert interval.high < 0


def test_harm_is_averaged_where_it_was_measured() -> None:
    rows = [
        row("bias", harm=HARM.model_copy(update={"kl": 0.1, "domain": None})),
        row("bias", harm=HARM.model_copy(update={"kl": 0.2, "domain": 0.3})),
    ]
    found = mean_harm(rows)
    assert found.kl == pytest.approx(0.15)
    assert found.domain == pytest.approx(0.3)
    assert found.loops is None


def test_the_leading_scorer_comes_first() -> None:
    assert columns([row("base", rates(1))]) == [COLUMN, Column("test", "vader")]
