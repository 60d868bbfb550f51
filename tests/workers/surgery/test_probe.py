"""The probe learns what it should, from the texts' own order, and refuses what it can't learn."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models_store.errors import EditFailed, InvalidRequest
from workers.surgery.probe import DESIRED, UNDESIRED, ProbeSettings, auc, fit_probe

FAST = ProbeSettings(epochs=30, learning_rate=1e-2)


def two_clouds(count: int = 60, hidden: int = 8, gap: float = 8.0) -> tuple[Tensor, Tensor]:
    """Undesired rows lie at +gap along the first axis, desired ones at the origin."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(count, hidden, generator=generator)
    labels = torch.arange(count) % 2
    features[labels == UNDESIRED, 0] += gap
    return features, labels


def test_the_direction_points_to_the_undesired_side() -> None:
    features, labels = two_clouds()
    probe = fit_probe(features, labels, FAST, seed=0)
    assert probe.direction[0] > 0
    assert torch.equal(probe.direction, probe.weight[UNDESIRED])
    assert probe.heldout_auc > 0.9
    assert probe.heldout_accuracy > 0.8


def test_held_out_rows_are_never_trained_on() -> None:
    features, labels = two_clouds()
    probe = fit_probe(features, labels, FAST, seed=0)
    changed = features.clone()
    changed[list(probe.heldout_rows)] = 1e3
    again = fit_probe(changed, labels, FAST, seed=0)
    assert torch.equal(again.weight, probe.weight)
    assert sorted(probe.train_rows + probe.heldout_rows) == list(range(60))
    assert len(probe.train_rows) == 54


def test_the_seed_decides_the_split_and_the_weights() -> None:
    features, labels = two_clouds()
    one, same, other = (fit_probe(features, labels, FAST, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.weight, same.weight)
    assert one.train_rows == same.train_rows
    assert one.train_rows != other.train_rows
    assert not torch.equal(one.weight, other.weight)


def test_weight_decay_shortens_the_direction() -> None:
    features, labels = two_clouds()
    free = fit_probe(features, labels, FAST, seed=0)
    decayed = fit_probe(
        features, labels, ProbeSettings(epochs=30, learning_rate=1e-2, weight_decay=1.0), seed=0
    )
    assert decayed.direction.norm() < 0.8 * free.direction.norm()


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_texts_are_refused(count: int) -> None:
    features, labels = two_clouds()
    with pytest.raises(InvalidRequest, match="not enough"):
        fit_probe(features[:count], labels[:count], FAST, seed=0)


def test_texts_of_one_side_are_refused() -> None:
    features, _ = two_clouds()
    with pytest.raises(InvalidRequest, match="both sides"):
        fit_probe(features, torch.full((60,), DESIRED), FAST, seed=0)


def test_features_that_are_not_finite_fail_the_edit() -> None:
    features, labels = two_clouds()
    features[3, 2] = float("nan")
    with pytest.raises(EditFailed, match="not finite"):
        fit_probe(features, labels, FAST, seed=0)


def test_auc_counts_pairs_and_half_of_ties() -> None:
    labels = torch.tensor([UNDESIRED, UNDESIRED, DESIRED, DESIRED])
    assert auc(torch.tensor([3.0, 1.0, 1.0, 0.0]), labels) == (1 + 1 + 0.5 + 1) / 4
    assert auc(torch.tensor([1.0, 2.0]), torch.tensor([DESIRED, DESIRED])) == 0.5
