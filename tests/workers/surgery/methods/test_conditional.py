"""Where a conditional edit is felt."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models_store.errors import EditFailed
from workers.surgery.methods.conditional.fit import condition
from workers.surgery.regression import AnswerStarts, FirstTokens

SIZE = 12


def vectors(seed: int, axis: int, count: int = 60) -> Tensor:
    """Noise around a mean of their own."""
    generator = torch.Generator().manual_seed(seed)
    found = 0.2 * torch.randn(count, SIZE, generator=generator, dtype=torch.float64)
    found[:, axis] += 2.0
    found[:, 0] += 1.0
    return found


def second(rows: Tensor) -> Tensor:
    return rows.T @ rows / len(rows)


def statistics(behavior: Tensor, preserved: Tensor, rest: Tensor) -> AnswerStarts:
    return AnswerStarts(
        layer=3,
        behavior=behavior.mean(dim=0),
        behavior_square=float(second(behavior).diagonal().mean()),
        second=(second(behavior) + second(preserved) + second(rest)).float(),
        unseen_behavior=vectors(5, axis=1).float(),
        unseen_preserved=torch.empty(0, SIZE),
    )


def first_tokens(seed: int) -> Tensor:
    """Huge along an axis of their own."""
    found = 0.01 * vectors(seed, axis=4)
    found[:, 4] += 300.0
    return found.float()


FIRST = FirstTokens(first_tokens(8), first_tokens(9))


def test_it_is_felt_where_it_is_asked_for_and_nowhere_else() -> None:
    behavior, preserved, rest = vectors(0, axis=1), vectors(1, axis=2), vectors(2, axis=3)
    found, felt = condition(statistics(behavior, preserved, rest), FIRST, ridge=0.01)
    assert float((vectors(6, axis=1) @ found.vector).mean()) == pytest.approx(1.0, abs=0.1)
    for other in (vectors(7, axis=2), vectors(7, axis=3)):
        assert float((other @ found.vector).mean()) == pytest.approx(0.0, abs=0.1)
    assert felt.layer == 3
    assert felt.asked == pytest.approx(1.0, abs=0.1)
    assert felt.spared is None
    assert found.check.used


def test_how_much_is_felt_elsewhere_does_not_cancel_out() -> None:
    behavior, preserved, rest = vectors(0, axis=1), vectors(1, axis=2), vectors(2, axis=3)
    both = torch.cat([behavior, -behavior]).float()
    found, felt = condition(
        replace(statistics(behavior, preserved, rest), unseen_preserved=both), FIRST, 0.01
    )
    assert float((both.double() @ found.vector).mean()) == pytest.approx(0.0, abs=1e-6)
    assert felt.spared == pytest.approx(1.0, abs=0.1)


def test_without_unseen_prompts_nothing_is_said_of_them() -> None:
    asked, spared, rest = vectors(0, axis=1), vectors(1, axis=2), vectors(2, axis=3)
    nothing = torch.zeros(0, SIZE)
    unseen = replace(
        statistics(asked, spared, rest), unseen_asked=nothing, unseen_spared=spared.float()
    )
    _, felt = condition(unseen, FIRST, 0.01)
    assert felt.asked is None
    assert felt.spared is not None


def test_it_solves_the_normal_equations() -> None:
    behavior, preserved, rest = vectors(0, axis=1), vectors(1, axis=2), vectors(2, axis=3)
    found, _ = condition(statistics(behavior, preserved, rest), FIRST, ridge=0.5)
    normal = second(behavior) + second(preserved) + second(rest) + second(FIRST.fitted.double())
    normal += 0.5 * second(behavior).diagonal().mean() * torch.eye(SIZE, dtype=torch.float64)
    assert torch.allclose(normal @ found.vector, behavior.mean(dim=0), atol=1e-5)


def test_prompts_that_cannot_be_told_apart_feel_it_half() -> None:
    behavior, rest = vectors(0, axis=1, count=5000), vectors(2, axis=3)
    found, _ = condition(statistics(behavior, behavior, rest), FIRST, ridge=1e-4)
    assert float((behavior @ found.vector).mean()) == pytest.approx(0.5, abs=0.05)


def test_dead_activations_fail() -> None:
    dead = torch.zeros(4, SIZE, dtype=torch.float64)
    with pytest.raises(EditFailed, match="not finite or all zero"):
        condition(
            statistics(dead, dead, dead),
            FirstTokens(torch.zeros(2, SIZE), torch.zeros(2, SIZE)),
            ridge=0.01,
        )
