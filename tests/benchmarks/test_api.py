"""How the benchmark of the API sums up what it measured."""

from __future__ import annotations

import pytest

from benchmarks.serving.api import Pair, median
from benchmarks.serving.wrk import Speed


def test_the_ratio_is_that_of_requests_a_second() -> None:
    pair = Pair("read", ours=Speed(1_500, 2.0, 9.0), bare=Speed(2_000, 1.25, 4.0))
    assert pair.ratio == pytest.approx(0.75)
    assert pair.row() == "| read | 1,500 | 2.0 ms | 9.0 ms | 2,000 | 1.2 ms | 4.0 ms | 0.75 |"


def test_each_figure_is_the_median_of_its_own_kind() -> None:
    speeds = [Speed(100, 3.0, 50.0), Speed(300, 1.0, 10.0), Speed(200, 2.0, 90.0)]
    assert median(speeds) == Speed(200, 2.0, 50.0)
