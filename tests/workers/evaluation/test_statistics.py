from __future__ import annotations

import numpy as np
import pytest

from models_store.schemas.items import Prompt
from models_store.schemas.measurements import Interval
from models_store.schemas.report import SECOND_LOOK
from workers.evaluation.context.plan import TEST_CONFIDENCE
from workers.evaluation.damage.damage import exponential
from workers.evaluation.effect.effect import contrast
from workers.evaluation.statistics import Bootstrap, groups_of, interval, smallest_visible

BOOTSTRAP = Bootstrap(seed=0)


def test_an_interval_is_that_of_a_plain_bootstrap_loop() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=80)
    draws = [values[rng.integers(0, 80, 80)].mean() for _ in range(10_000)]
    found = BOOTSTRAP.mean(values)
    low, high = np.percentile(draws, [2.5, 97.5])
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(low, abs=0.015)
    assert found.high == pytest.approx(high, abs=0.015)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(2)
    held = 0
    for trial in range(200):
        found = Bootstrap(trial, resamples=500).mean(rng.normal(0.3, 1.0, size=60))
        held += found.low <= 0.3 <= found.high
    assert 178 <= held <= 199


@pytest.mark.parametrize("units", [8, 12, 20, 40])
def test_where_nothing_changed_a_bound_is_crossed_about_once_in_forty(units: int) -> None:
    """Templates of five prompts that show a behaviour rarely or often, by chance alike before and
    after."""
    rng = np.random.default_rng(units)
    rates = rng.beta(0.5, 1.5, (3_000, units, 1))
    before, after = (
        (rng.random((3_000, units, 5)) < rates).mean(axis=2) for _ in ("before", "after")
    )
    changes = after - before
    # All trials are resampled alike.
    draws = Bootstrap(0, 1_000, cells_at_once=400).sums(changes.T).T / units
    found = [
        interval(float(change.mean()), drawn, units)
        for change, drawn in zip(changes, draws, strict=True)
    ]
    for crossed in ([each.high < 0 for each in found], [each.low > 0 for each in found]):
        assert 0.015 < np.mean(crossed) < 0.034


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.linspace(0, 1, 30) ** 2
    assert BOOTSTRAP.mean(values) == Bootstrap(seed=0).mean(values)
    assert BOOTSTRAP.mean(values) != Bootstrap(seed=1).mean(values)


def test_resampling_in_pieces_changes_nothing_but_memory() -> None:
    values = np.arange(50, dtype=np.float64)[:, None]
    whole = BOOTSTRAP.sums(values)
    pieces = Bootstrap(seed=0, cells_at_once=700).sums(values)
    np.testing.assert_array_equal(np.sort(whole, axis=0), np.sort(pieces, axis=0))


def test_a_ratio_weighs_long_texts_more() -> None:
    found = BOOTSTRAP.ratio(np.array([10.0, 0.0, 0.0]), np.array([10.0, 5.0, 5.0]))
    assert found.value == 0.5
    assert found.low == 0.0
    assert found.high == 1.0


def test_the_interval_of_a_quantile_is_that_of_a_plain_bootstrap_loop() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 30, 400)
    values = rng.exponential(size=400) * (1 + groups)
    pieces = Bootstrap(0, 2_000, cells_at_once=1_000).quantile(values, groups, 0.9)
    draws = []
    for _ in range(4_000):
        drawn = np.concatenate([values[groups == one] for one in rng.integers(0, 30, 30)])
        draws.append(np.quantile(drawn, 0.9, method="inverted_cdf"))
    slow = interval(float(np.quantile(values, 0.9, method="inverted_cdf")), np.array(draws), 30)
    assert pieces.value == slow.value
    assert pieces.low == pytest.approx(slow.low, rel=0.1)
    assert pieces.high == pytest.approx(slow.high, rel=0.1)


def test_no_change_has_an_interval_of_no_width() -> None:
    same = np.full((20, 2), 0.7)
    found = contrast(same, same, BOOTSTRAP)
    assert found.difference == Interval(value=0.0, low=0.0, high=0.0)


def test_samples_of_a_prompt_are_averaged_and_prompts_are_paired() -> None:
    rng = np.random.default_rng(3)
    base = rng.random((50, 2))
    found = contrast(base, base - 0.1, BOOTSTRAP)
    # However much prompts differ, each fell by the same, so nothing is uncertain.
    assert found.difference.high - found.difference.low < 1e-12
    assert found.difference.value == pytest.approx(-0.1)
    assert found.base == pytest.approx(base.mean())


def test_repeating_every_sample_does_not_make_an_interval_narrower() -> None:
    rng = np.random.default_rng(4)
    base, edited = rng.random((40, 1)), rng.random((40, 1))
    once = contrast(base, edited, BOOTSTRAP).difference
    thrice = contrast(base.repeat(3, axis=1), edited.repeat(3, axis=1), BOOTSTRAP).difference
    assert thrice.low == pytest.approx(once.low)
    assert thrice.high == pytest.approx(once.high)


def test_a_change_as_large_as_the_smallest_visible_one_is_mostly_seen() -> None:
    rng = np.random.default_rng(5)
    visible = smallest_visible(np.tile([-0.5, 0.5], 25))
    seen = sum(
        Bootstrap(trial, resamples=500).mean(rng.normal(-visible, 0.5, size=50)).high < 0
        for trial in range(200)
    )
    assert 140 <= seen <= 185


def test_equal_differences_make_one_unit_the_smallest_visible_change() -> None:
    assert smallest_visible(np.zeros(25)) == 0.04
    assert smallest_visible(np.zeros(1)) == 1.0


def test_nats_become_a_ratio_of_perplexities() -> None:
    found = exponential(Interval(value=0.0, low=-1.0, high=np.log(2)))
    assert [found.value, found.high] == pytest.approx([1.0, 2.0])


def test_prompts_that_share_a_template_widen_the_interval() -> None:
    """Five prompts of a template that all say the same are one prompt's worth of evidence."""
    rng = np.random.default_rng(3)
    of_template = rng.normal(size=12)
    values = np.repeat(of_template, 5)
    groups = np.repeat(np.arange(12), 5)
    alone = BOOTSTRAP.mean(values)
    grouped = BOOTSTRAP.mean(values, groups)
    assert grouped.value == pytest.approx(alone.value)
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)
    one_each = BOOTSTRAP.mean(of_template)
    assert [grouped.low, grouped.high] == pytest.approx([one_each.low, one_each.high])


def test_groups_of_different_sizes_are_drawn_whole() -> None:
    """Against a loop that concatenates the drawn groups and takes their mean."""
    rng = np.random.default_rng(4)
    sizes = rng.integers(1, 6, size=15)
    groups = np.repeat(np.arange(15), sizes)
    values = rng.normal(size=15)[groups] + 0.3 * rng.normal(size=len(groups))
    draws = []
    for _ in range(4000):
        drawn = rng.integers(0, 15, 15)
        draws.append(np.concatenate([values[groups == one] for one in drawn]).mean())
    sums = BOOTSTRAP.sums(np.stack([values, np.ones_like(values)], axis=1), groups)
    found = np.percentile(sums[:, 0] / sums[:, 1], [2.5, 50, 97.5])
    assert found.tolist() == pytest.approx(np.percentile(draws, [2.5, 50, 97.5]).tolist(), abs=0.03)
    assert BOOTSTRAP.mean(values, groups).value == pytest.approx(values.mean())


def test_the_numbers_of_groups_do_not_matter() -> None:
    values, groups = np.linspace(0, 1, 12), np.arange(12) // 3
    assert BOOTSTRAP.mean(values, groups) == BOOTSTRAP.mean(values, (groups * 7 + 100).tolist())
    assert BOOTSTRAP.mean(values, np.arange(12)) == BOOTSTRAP.mean(values)


def test_prompts_without_a_template_are_groups_of_their_own() -> None:
    prompts = [Prompt(text=str(i), template=name) for i, name in enumerate("abac")]
    prompts[3] = Prompt(text="3")
    assert groups_of([*prompts, Prompt(text="4")]).tolist() == [0, 1, 0, 2, 3]


def test_fewer_changes_are_visible_where_prompts_share_a_template() -> None:
    of_template = np.random.default_rng(5).normal(size=10)
    values, groups = np.repeat(of_template, 4), np.repeat(np.arange(10), 4)
    assert smallest_visible(values, groups) == pytest.approx(smallest_visible(of_template))
    assert smallest_visible(values, groups) > 1.9 * smallest_visible(values)
    assert smallest_visible(values, np.arange(40)) == pytest.approx(smallest_visible(values))


@pytest.mark.parametrize("units", range(1, 8))
def test_fewer_than_eight_units_never_tell_a_difference_from_nothing(units: int) -> None:
    """However many prompts there are of each template, and however alike they are."""
    groups = np.repeat(np.arange(units), 20)
    for value in (-1.0, -1 / 3, 0.0, 1.0):
        found = BOOTSTRAP.mean(np.full(20 * units, value), groups)
        assert found.low <= 0 <= found.high
        assert found.low <= found.value <= found.high
    assert smallest_visible(np.full(20 * units, -1 / 3), groups) == 1.0


def test_of_one_unit_all_that_is_possible_is_in_the_interval() -> None:
    assert BOOTSTRAP.mean(np.array([-1.0])) == Interval(value=-1.0, low=-1.0, high=1.0)
    lengths = contrast(np.array([[10.0]]), np.array([[4.0]]), BOOTSTRAP).difference
    assert lengths == Interval(value=-6.0, low=-10.0, high=10.0)


def test_few_units_have_students_interval_of_their_means() -> None:
    of_template = np.array([-0.2, 0.1, 0.3, 0.0, 0.15])
    values, groups = np.repeat(of_template, 6), np.repeat(np.arange(5), 6)
    # 2.77645 is the 97.5 % point of Student's t with 4 degrees of freedom.
    half = 2.77645 * of_template.std(ddof=1) / np.sqrt(5)
    found = BOOTSTRAP.mean(values, groups)
    assert found.low == pytest.approx(of_template.mean() - half, rel=1e-5)
    assert found.high == pytest.approx(of_template.mean() + half, rel=1e-5)


def test_eight_units_that_agree_exclude_nothing_else() -> None:
    values, groups = np.full(40, -0.5), np.repeat(np.arange(8), 5)
    assert BOOTSTRAP.mean(values, groups).high == -0.5
    # At least one unit's worth, not the rounding of a sum.
    assert smallest_visible(np.full(40, -1 / 3), groups) == 0.125


def test_two_looks_call_nothing_a_fall_as_rarely_as_one_look_should() -> None:
    bootstrap = Bootstrap(seed=0, resamples=400, confidence=TEST_CONFIDENCE)
    draws, rng = 1500, np.random.default_rng(0)
    samples = rng.normal(size=(draws, 60, SECOND_LOOK))
    fell = [
        bootstrap.mean(one[:, 0]).high < 0 or bootstrap.mean(one.mean(axis=1)).high < 0
        for one in samples
    ]
    # 2.5 % are allowed; three standard errors of a share of so many draws are 1.2 %.
    assert 0.01 < np.mean(fell) < 0.037


def test_intervals_of_more_confidence_are_wider() -> None:
    values = np.linspace(-1, 0.5, 40)
    usual, sure = (
        Bootstrap(seed=0, confidence=confidence).mean(values) for confidence in (0.95, 0.975)
    )
    assert sure.low < usual.low < usual.value < usual.high < sure.high
    # Of 40 units: 2.33 standard errors in place of 2.02.
    assert (sure.high - sure.low) / (usual.high - usual.low) == pytest.approx(1.15, abs=0.03)
