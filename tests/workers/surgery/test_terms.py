"""Terms keep one form, one order and one identity."""

from __future__ import annotations

import pytest
import torch

from benchmarks.made_up_edits import SHAPE_7B, held_bytes, shift, surgery
from models_store.errors import InvalidRequest
from models_store.weights.architectures import GATE, MatrixKey
from workers.surgery.terms import (
    by_matrix,
    canonical,
    change,
    dense,
    flatten,
    make_term,
    scaled,
    union_of_rows,
)

KEY = MatrixKey(1, GATE)


def test_rows_are_sorted_with_their_coefficients() -> None:
    term = make_term(KEY, torch.ones(3), torch.tensor([5, 2]), torch.tensor([1.0, -1.0]))
    assert term.rows.tolist() == [2, 5]
    assert term.coefficients.tolist() == [-1.0, 1.0]
    assert dense(term, 6).tolist() == [0, 0, -1, 0, 0, 1]


@pytest.mark.parametrize(
    ("direction", "rows", "coefficients", "reason"),
    [
        (torch.ones(3), torch.tensor([1, 1]), torch.ones(2), "different"),
        (torch.ones(3), torch.tensor([-1, 1]), torch.ones(2), "not negative"),
        (torch.ones(3), torch.tensor([1]), torch.ones(2), "shapes"),
        (torch.ones(3, 1), torch.tensor([1]), torch.ones(1), "shapes"),
        (torch.tensor([torch.inf]), torch.tensor([1]), torch.ones(1), "finite"),
        (torch.ones(1), torch.tensor([1]), torch.tensor([torch.nan]), "finite"),
    ],
)
def test_malformed_terms_are_refused(
    direction: torch.Tensor, rows: torch.Tensor, coefficients: torch.Tensor, reason: str
) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        make_term(KEY, direction, rows, coefficients)


def test_the_digest_tells_terms_apart() -> None:
    def term(layer: int = 1, value: float = 1.0, row: int = 0) -> str:
        rows, ones = torch.tensor([row]), torch.ones(1)
        return make_term(MatrixKey(layer, GATE), torch.full((3,), value), rows, ones).digest

    assert term() == term()
    assert len({term(), term(layer=2), term(value=2.0), term(row=1)}) == 4


def test_the_digest_is_the_same_on_every_machine() -> None:
    term = make_term(
        MatrixKey(3, GATE, 1), torch.tensor([0.5, -2.0]), torch.tensor([4, 1]), torch.ones(2)
    )
    assert term.digest == "12acffc2afb8803326ab1173d4ca78a07f98875013e36f848c698979d9c77ec2"


def test_all_that_a_term_is_can_change_its_digest() -> None:
    def digest(direction: list[float], rows: list[int], coefficients: list[float]) -> str:
        tensors = torch.tensor(direction), torch.tensor(rows), torch.tensor(coefficients)
        return make_term(KEY, *tensors).digest

    digests = {
        digest([1.0, 2.0], [0, 1], [1.0, 2.0]),
        digest([1.0, 2.0], [0, 1], [2.0, 1.0]),
        digest([1.0, 2.0], [0, 2], [1.0, 2.0]),
        digest([2.0, 2.0], [0, 1], [1.0, 2.0]),
        digest([1.0, 2.0, 0.0], [0, 1], [1.0, 2.0]),
    }
    assert len(digests) == 5


def test_terms_are_grouped_by_matrix_and_their_rows_united() -> None:
    other = MatrixKey(0, GATE)
    rows = ([3, 1], [2], [7, 1])
    one, two, three = (
        make_term(key, torch.ones(2), torch.tensor(own), torch.ones(len(own)))
        for key, own in zip((KEY, other, KEY), rows, strict=True)
    )
    groups = by_matrix([(one, 1.0), (two, 2.0), (three, 3.0)])
    assert groups == {KEY: [(one, 1.0), (three, 3.0)], other: [(two, 2.0)]}
    assert union_of_rows(groups[KEY]).tolist() == [1, 3, 7]
    assert union_of_rows(groups[KEY]).dtype == torch.int64


def test_a_mixture_has_one_order_whoever_comes_first() -> None:
    first = make_term(MatrixKey(0, GATE), torch.ones(2), torch.tensor([0]), torch.ones(1))
    last = make_term(MatrixKey(2, GATE), torch.ones(2), torch.tensor([0]), torch.ones(1))
    expected = [(first, -1.0), (first, 0.5), (last, 0.25), (last, 0.5)]
    assert flatten([([last, first], 0.5), ([first], -1.0), ([last], 0.25)]) == expected


def test_a_term_may_have_no_rows_and_whole_matrices_share_theirs() -> None:
    none = make_term(KEY, torch.ones(2), torch.tensor([], dtype=torch.int64), torch.tensor([]))
    assert (none.rows.tolist(), none.coefficients.tolist()) == ([], [])
    one, two = (
        make_term(KEY, torch.ones(2), torch.tensor([1, 0, 2]), torch.tensor([5.0, 4.0, 5.0]))
        for _ in range(2)
    )
    assert one.rows.data_ptr() == two.rows.data_ptr()
    assert one.coefficients.tolist() == [4.0, 5.0, 5.0]
    apart = make_term(KEY, torch.ones(2), torch.tensor([0, 1, 3]), torch.full((3,), 2.0))
    assert apart.rows.tolist() == [0, 1, 3]
    assert apart.coefficients.tolist() == [2.0, 2.0, 2.0]
    assert apart.coefficients.untyped_storage().nbytes() == 4


def test_the_order_does_not_depend_on_where_terms_came_from() -> None:
    terms = [
        make_term(MatrixKey(layer, GATE, expert), torch.randn(3), torch.tensor([0]), torch.ones(1))
        for layer in (1, 0)
        for expert in (None, 3, 1)
    ]
    forward, backward = canonical(terms), canonical(reversed(terms))
    assert [term.digest for term in forward] == [term.digest for term in backward]
    assert [tuple(term.key) for term in forward][:3] == [
        (0, GATE, None),
        (0, GATE, 1),
        (0, GATE, 3),
    ]


def test_edits_at_strength_zero_are_no_edits() -> None:
    term = make_term(KEY, torch.ones(3), torch.tensor([0]), torch.ones(1))
    assert flatten([([term], 0.0), ([term], 0.5)]) == [(term, 0.5)]


def test_change_adds_terms_up_where_rows_meet() -> None:
    v, w = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    one = make_term(KEY, v, torch.tensor([0, 2]), torch.tensor([1.0, 2.0]))
    two = make_term(KEY, w, torch.tensor([2, 7]), torch.tensor([3.0, 4.0]))
    total = change([(one, 1.0), (two, -0.5)], torch.tensor([0, 2, 7]), torch.float32)
    assert total.tolist() == [[1.0, 0.0], [2.0, -1.5], [0.0, -2.0]]
    alone = change([(one, 2.0)], torch.tensor([0, 1, 2]), torch.float64)
    assert alone.tolist() == [[2.0, 0.0], [0.0, 0.0], [4.0, 0.0]]
    assert alone.dtype == torch.float64


def test_scaling_multiplies_coefficients_only() -> None:
    term = make_term(KEY, torch.ones(3), torch.tensor([0, 1]), torch.tensor([1.0, -2.0]))
    (double,) = scaled([term], 2.0)
    assert double.coefficients.tolist() == [2.0, -4.0]
    assert torch.equal(double.direction, term.direction)


def test_an_edit_of_a_large_model_takes_little_memory() -> None:
    hidden, intermediate, layers = SHAPE_7B
    edit = surgery(hidden, intermediate, layers, seed=0)
    bias = shift(hidden, intermediate, range(3), seed=1)
    generator = torch.Generator().manual_seed(2)
    natural = [
        make_term(
            MatrixKey(layer, GATE),
            torch.randn(hidden, generator=generator),
            torch.arange(intermediate),
            torch.randn(intermediate, generator=generator),
        )
        for layer in range(layers)
    ]
    # Rows of whole matrices are shared by all edits.
    shared = 8 * intermediate
    assert held_bytes([edit]) <= 200_000
    assert held_bytes([bias]) - 8 * hidden <= 200_000
    assert held_bytes([natural]) - shared <= 2_000_000
    rows = int(0.0465 * intermediate)
    assert torch.equal(edit[0].coefficients, torch.full((rows,), 1.08))
    assert torch.equal(natural[0].rows, torch.arange(intermediate))
