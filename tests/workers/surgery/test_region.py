"""Rows are chosen over all gates together, by cosine, then gate, then row."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models_store.errors import InvalidRequest
from workers.surgery.region import select_region


def cosines_by_hand(gates: list[Tensor], direction: Tensor) -> list[tuple[float, int, int]]:
    """Cosine, gate and row of every row, in plain Python floats, sorted."""
    vector = [float(value) for value in direction]
    length = math.sqrt(sum(value * value for value in vector))
    found = []
    for g, gate in enumerate(gates):
        for r, row in enumerate(gate.tolist()):
            norm = math.sqrt(sum(value * value for value in row))
            dot = sum(a * b for a, b in zip(row, vector, strict=True))
            found.append((dot / (norm * length) if norm else 0.0, g, r))
    return sorted(found)


@given(
    seed=st.integers(0, 10_000),
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    fraction=st.floats(0.05, 1.0),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
)
def test_the_region_is_what_a_plain_loop_finds(
    seed: int, sizes: list[int], fraction: float, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(seed)
    gates = [torch.randn(size, 5, generator=generator).to(dtype) for size in sizes]
    direction = torch.randn(5, generator=generator)
    count = round(fraction * sum(sizes))
    if not count:
        return
    region = select_region(iter(gates), direction, fraction)
    expected = cosines_by_hand(gates, direction)[:count]
    chosen = [(g, int(r)) for g, rows in enumerate(region.rows) for r in rows]
    assert chosen == sorted((g, r) for _, g, r in expected)
    assert region.cut == pytest.approx(expected[-1][0], abs=1e-12)
    assert region.size == count
    assert region.total_rows == sum(sizes)


def test_equal_cosines_are_taken_in_order_of_gate_and_row() -> None:
    row = torch.tensor([[-1.0, 0.0]])
    gates = [torch.cat([-row, row, row]), torch.cat([row, row])]
    region = select_region(gates, torch.tensor([1.0, 0.0]), 3 / 5)
    assert [rows.tolist() for rows in region.rows] == [[1, 2], [0]]


def test_a_longer_row_is_not_preferred() -> None:
    gates = [torch.tensor([[-100.0, 100.0], [-0.1, 0.0]])]
    region = select_region(gates, torch.tensor([1.0, 0.0]), 0.5)
    assert region.rows[0].tolist() == [1]


def test_the_mean_row_norm_is_over_all_rows() -> None:
    gates = [torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 1.0], [0.0, 0.0]])]
    region = select_region(gates, torch.tensor([1.0, 0.0]), 1.0)
    assert region.mean_row_norm == pytest.approx(2.0)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_a_direction_without_direction_is_refused(value: float) -> None:
    with pytest.raises(InvalidRequest, match="zero or not finite"):
        select_region([torch.ones(4, 2)], torch.full((2,), value), 0.5)


@pytest.mark.parametrize(("fraction", "count"), [(0.01, 0), (1.25, 5)])
def test_a_fraction_that_picks_nothing_or_too_much_is_refused(fraction: float, count: int) -> None:
    with pytest.raises(InvalidRequest, match=f"picks {count} of 4 rows"):
        select_region([torch.ones(4, 2)], torch.ones(2), fraction)
    with pytest.raises(InvalidRequest, match="picks 0 of 0 rows"):
        select_region([], torch.ones(2), 1.0)


def test_a_row_of_zeros_has_cosine_zero() -> None:
    gates = [torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])]
    region = select_region(gates, torch.tensor([3.0, 0.0]), 1.0)
    assert region.cosines[0].tolist() == [0.0, 1.0, -1.0]
    assert region.cut == 1.0
    assert select_region(gates, torch.tensor([3.0, 0.0]), 2 / 3).cut == 0.0
