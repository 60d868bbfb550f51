"""Rows are chosen over all matrices together."""

from __future__ import annotations

import pytest
import torch

from models_store.errors import InvalidRequest
from models_store.weights.architectures import GATE, MatrixKey
from workers.surgery.rows import largest_rows

FIRST, SECOND = MatrixKey(0, GATE), MatrixKey(1, GATE)
SCORES = {FIRST: torch.tensor([1.0, 5.0, 3.0]), SECOND: torch.tensor([3.0, 0.0, 4.0, 3.0])}


def test_the_largest_scores_win_and_of_equal_ones_the_first() -> None:
    found = largest_rows(SCORES, 4 / 7)
    assert {key: rows.tolist() for key, rows in found.items()} == {FIRST: [1, 2], SECOND: [0, 2]}


def test_a_matrix_may_be_left_with_no_row() -> None:
    found = largest_rows(SCORES, 1 / 7)
    assert {key: rows.tolist() for key, rows in found.items()} == {FIRST: [1], SECOND: []}


def test_all_rows_may_be_picked() -> None:
    assert [rows.tolist() for rows in largest_rows(SCORES, 1.0).values()] == [
        [0, 1, 2],
        [0, 1, 2, 3],
    ]


@pytest.mark.parametrize("fraction", [0.01, 1.2])
def test_a_fraction_that_picks_nothing_or_too_much_is_refused(fraction: float) -> None:
    with pytest.raises(InvalidRequest, match="of 7 rows"):
        largest_rows(SCORES, fraction)
