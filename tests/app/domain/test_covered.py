"""Which mixtures of edits receipts cover."""

from __future__ import annotations

import random

import numpy as np
import pytest

from app.domain.variants.covered import not_covered
from models_store.operator.policy import Serving
from models_store.schemas.records import DeltaRef

BYTES = {"a": "A", "again": "A", "b": "B", "child": "C", "grandchild": "D"}
"""Edits by their deltas' bytes: `again` reproduces `a`."""


def term(edit: str, strength: float = 1.0) -> DeltaRef:
    return DeltaRef(edit_id=edit, path=edit, sha256=BYTES[edit], strength=strength)


PARENTS = {
    "a": (),
    "again": (),
    "b": (),
    "child": (term("a", 0.5),),
    "grandchild": (term("a", 0.5), term("child"), term("b", 0.25)),
}


def reason(serving: Serving | None = None, **strengths: float) -> str | None:
    mixture = [term(edit, strength) for edit, strength in strengths.items()]
    return not_covered(mixture, PARENTS, serving or Serving())


@pytest.mark.parametrize(
    "strengths",
    [
        {"a": 1},
        {"a": 0.25},
        {"a": 0},
        {"a": 0.5, "again": 0.5},
        {"a": 2, "again": -1},
        {"a": 0.5, "child": 1},
        {"again": 0.5, "child": 1},
        {"a": 0.5, "child": 0.3},
        {"a": 0.25, "child": 0.5},
        {"a": 0.5, "child": 1, "b": 0.25, "grandchild": 1},
        {"a": 0.1, "child": 0.2, "b": 0.05, "grandchild": 0.2},
    ],
)
def test_what_a_receipt_measured_and_less_of_it_is_covered(strengths: dict[str, float]) -> None:
    assert reason(**strengths) is None


@pytest.mark.parametrize(
    ("strengths", "words"),
    [
        ({"a": 1.5}, "serving.strengths: a may be used from 0 to 1, not at 1.5"),
        ({"a": -0.1}, "not at -0.1"),
        ({"a": 1, "again": 1}, "not at 2, the sum of all its terms"),
        ({"child": 1}, "child may be used with a at 0.5, as it was measured, not at 0"),
        ({"a": 0.0001, "child": 1}, "not at 0.0001"),
        ({"a": 1, "child": 1}, "not at 1"),
        ({"a": 0.5, "again": 0.5, "child": 1}, "not at 1"),
        ({"a": 0.5, "child": -1}, "not at -1"),
        ({"a": 1, "b": 1}, "serving.compositions: no receipt covers a and b together"),
        ({"a": 0.5, "child": 1, "b": 1}, "serving.compositions"),
        ({"a": 0.5, "child": 1, "grandchild": 1}, "with b at 0.25"),
    ],
)
def test_what_no_receipt_measured_is_not(strengths: dict[str, float], words: str) -> None:
    told = reason(**strengths)
    assert told is not None
    assert words in told
    assert "edits:unsafe" in told


def test_a_policy_may_allow_compositions_of_what_is_covered_alone() -> None:
    serving = Serving(compositions="any")
    assert reason(serving, a=1, b=1) is None
    assert reason(serving, a=0.5, child=1, b=1) is None
    assert reason(serving, a=1, again=1, b=1) is not None
    assert reason(serving, child=1, b=1) is not None


def test_other_strengths_are_as_far_as_the_policy_says() -> None:
    serving = Serving(strengths=(-1, 2))
    assert reason(serving, a=2) is None
    assert reason(serving, a=1, again=1) is None
    assert reason(serving, a=0.5, child=-1) is None
    assert reason(serving, a=2.1) is not None


AXES = np.eye(4)
VECTORS = dict(zip("ABCD", AXES, strict=True))


def vector(mixture: list[DeltaRef]) -> np.ndarray:
    return sum((each.strength * VECTORS[each.sha256] for each in mixture), np.zeros(4))


def distance(point: np.ndarray, start: np.ndarray, end: np.ndarray) -> float:
    """From a point to a segment."""
    along = end - start
    share = float(np.clip((point - start) @ along / (along @ along), 0, 1))
    return float(np.linalg.norm(point - (start + share * along)))


def test_of_a_thousand_mixtures_none_is_let_through_beyond_a_receipt() -> None:
    """As points in space: a receipt is the segments from nothing, and from its parents, to it."""
    segments = []
    for edit, parents in PARENTS.items():
        measured = vector([*parents, term(edit)])
        segments += [(np.zeros(4), measured), (vector(list(parents)), measured)]
    draw = random.Random(3)
    counts = {True: 0, False: 0}
    for _ in range(3000):
        edits = draw.sample(list(BYTES), draw.randint(1, 4))
        if draw.random() < 0.5:  # near a receipt, since few others are covered
            edit = draw.choice(list(PARENTS))
            factor = draw.choice([1, 0.5, 2, 0.3])
            mixture = [term(p.edit_id, p.strength * factor) for p in PARENTS[edit]]
            mixture.append(term(edit, draw.choice([factor, 1, 0.3])))
            draw.shuffle(mixture)
        else:
            choices = [0.0001, 0.25, 0.5, 1, -1, 1.5]
            mixture = [term(edit, draw.choice(choices)) for edit in edits]
        point = vector(mixture)
        covered = min(distance(point, *segment) for segment in segments) < 1e-7
        let_through = not_covered(mixture, PARENTS, Serving()) is None
        assert let_through <= covered, mixture
        counts[let_through] += 1
    assert min(counts.values()) > 500, counts
