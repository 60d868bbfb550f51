"""The probe learns what it should, from the texts' own order, and refuses what it can't learn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from models_store.errors import EditFailed, InvalidRequest
from workers.surgery.probe import DESIRED, UNDESIRED, ProbeSettings, auc, cosine, fit_probe

PAPER = ProbeSettings(kind="paper")
FAST = replace(PAPER, epochs=30, learning_rate=1e-2)
CONVERGED = ProbeSettings()


def two_clouds(count: int = 60, hidden: int = 8, gap: float = 8.0) -> tuple[Tensor, Tensor]:
    """Undesired rows lie at +gap along the first axis, desired ones at the origin."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(count, hidden, generator=generator)
    labels = torch.arange(count) % 2
    features[labels == UNDESIRED, 0] += gap
    return features, labels


@pytest.mark.parametrize("settings", [FAST, CONVERGED], ids=lambda settings: settings.kind)
def test_the_direction_points_to_the_undesired_side(settings: ProbeSettings) -> None:
    features, labels = two_clouds()
    probe = fit_probe(features, labels, settings, seed=0)
    assert probe.direction[0] > 0
    assert torch.equal(probe.direction, probe.weight[UNDESIRED])
    assert probe.heldout_auc > 0.9
    assert probe.heldout_accuracy > 0.8


def test_it_is_trained_as_the_paper_says_where_nothing_else_is() -> None:
    assert (PAPER.epochs, PAPER.batch_size) == (9, 16)
    assert (PAPER.learning_rate, PAPER.train_fraction) == (1e-4, 0.9)


def test_it_is_adam_on_cross_entropy_written_out() -> None:
    """Rows one by one, in the order that one generator draws after the weights."""
    features, labels = two_clouds(count=23, hidden=4, gap=1.0)
    settings = replace(PAPER, epochs=3, learning_rate=0.05, batch_size=5, train_fraction=0.8)
    probe = fit_probe(features, labels, settings, seed=7)
    generator = torch.Generator().manual_seed(7)
    weight = torch.rand(2, 4, generator=generator) - 0.5  # 1/√4 to either side
    bias = torch.rand(2, generator=generator) - 0.5
    order = torch.randperm(23, generator=generator).tolist()
    train, heldout = order[:18], order[18:]
    assert probe.start is not None
    torch.testing.assert_close(probe.start, weight)
    parameters = torch.cat([weight, bias[:, None]], dim=1).double()
    inputs = torch.cat([features, torch.ones(23, 1)], dim=1).double()
    first, second, step = torch.zeros(2, 5).double(), torch.zeros(2, 5).double(), 0
    for _ in range(3):
        places = torch.randperm(18, generator=generator).tolist()
        for start in range(0, 18, 5):
            batch = [train[place] for place in places[start : start + 5]]
            gradient = torch.zeros(2, 5).double()
            for row in batch:
                error = torch.softmax(parameters @ inputs[row], dim=0)
                error[labels[row]] -= 1
                gradient += torch.outer(error, inputs[row]) / len(batch)
            step += 1
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            rate = (second / (1 - 0.999**step)).sqrt() + 1e-8
            parameters = parameters - 0.05 * first / (1 - 0.9**step) / rate
    assert torch.allclose(probe.weight.double(), parameters[:, :4], atol=1e-5)
    assert torch.allclose(probe.bias.double(), parameters[:, 4], atol=1e-5)
    assert (probe.train_rows, probe.heldout_rows) == (tuple(train), tuple(heldout))
    scores = (inputs @ parameters.T).tolist()
    right = [int(scores[row][1] > scores[row][0]) == int(labels[row]) for row in range(23)]
    assert probe.train_accuracy == pytest.approx(sum(right[row] for row in train) / 18)
    assert probe.heldout_accuracy == pytest.approx(sum(right[row] for row in heldout) / 5)
    assert 0 < probe.train_accuracy < 1
    margins = [scores[row][1] - scores[row][0] for row in heldout]
    sides = [
        [m for m, row in zip(margins, heldout, strict=True) if labels[row] == s] for s in (1, 0)
    ]
    wins = [undesired > desired for undesired in sides[0] for desired in sides[1]]
    assert probe.heldout_auc == pytest.approx(sum(wins) / len(wins))


def test_the_bias_moves_both_logits_of_a_row() -> None:
    """Rows far from the origin on both sides of a border that only the bias can move."""
    labels = torch.tensor([UNDESIRED, DESIRED] * 40)
    features = torch.where(labels == UNDESIRED, 6.0, 5.0)[:, None].repeat(1, 2)
    settings = replace(PAPER, epochs=400, learning_rate=0.05, batch_size=80)
    probe = fit_probe(features, labels, settings, seed=0)
    assert probe.train_accuracy == probe.heldout_accuracy == 1.0


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


def test_a_converged_probe_is_at_the_optimum() -> None:
    """That of another program, for the difference of the logits of the two classes."""
    features, labels = two_clouds(gap=2.0)
    probe = fit_probe(features, labels, replace(CONVERGED, weight_decay=0.05), seed=3)
    rows = list(probe.train_rows)
    variance = features[rows].double().var(dim=0, correction=0).mean()
    other = LogisticRegression(C=float(2 / (0.05 * len(rows) * variance)), tol=1e-9, max_iter=1000)
    other.fit(features[rows].double().numpy(), labels[rows].numpy())
    difference = probe.weight[UNDESIRED] - probe.weight[DESIRED]
    torch.testing.assert_close(difference, torch.tensor(other.coef_[0]).float())
    offset = probe.bias[UNDESIRED] - probe.bias[DESIRED]
    torch.testing.assert_close(offset, torch.tensor(other.intercept_[0]).float())
    assert 0.5 < probe.train_accuracy < 1
    assert probe.train_accuracy == pytest.approx(
        other.score(features[rows].double().numpy(), labels[rows].numpy())
    )


def test_nothing_of_a_start_is_in_a_converged_probe() -> None:
    features, labels = two_clouds(gap=1.0)
    probe = fit_probe(features, labels, CONVERGED, seed=0)
    assert torch.equal(probe.weight[UNDESIRED], -probe.weight[DESIRED])
    assert probe.antisymmetry == pytest.approx(-1.0)
    assert probe.antisymmetry >= -1
    assert (probe.start, probe.cosine_to_start, probe.norm_ratio) == (None, None, None)


def test_both_probes_of_a_seed_have_the_same_split() -> None:
    features, labels = two_clouds()
    probes = [fit_probe(features, labels, settings, seed=5) for settings in (FAST, CONVERGED)]
    assert probes[0].train_rows == probes[1].train_rows
    assert probes[0].heldout_rows == probes[1].heldout_rows


def test_weight_decay_means_the_same_for_features_of_any_size() -> None:
    features, labels = two_clouds(gap=1.0)
    probe, large = (
        fit_probe(size * features + offset, labels, CONVERGED, seed=0)
        for size, offset in ((1.0, 0.0), (100.0, 7.0))
    )
    torch.testing.assert_close(100 * large.direction, probe.direction, rtol=1e-4, atol=1e-5)
    assert large.heldout_auc == probe.heldout_auc


def test_weight_decay_shortens_the_direction_and_turns_it_to_the_difference_of_means() -> None:
    features, labels = two_clouds(gap=1.0)
    free, decayed, more = (
        fit_probe(features, labels, replace(CONVERGED, weight_decay=decay), seed=0)
        for decay in (1e-3, 1.0, 1e3)
    )
    assert more.direction.norm() < decayed.direction.norm() < 0.8 * free.direction.norm()
    rows = list(free.train_rows)
    sides = labels[rows]
    means = [features[rows][sides == side].mean(dim=0) for side in (UNDESIRED, DESIRED)]
    turned = [cosine(probe.direction, means[0] - means[1]) for probe in (free, decayed, more)]
    assert turned == sorted(turned)
    assert turned[0] < 0.99
    assert turned[2] > 0.9999


def test_features_that_are_all_alike_give_a_direction_of_nothing() -> None:
    _, labels = two_clouds()
    probe = fit_probe(torch.ones(60, 8), labels, CONVERGED, seed=0)
    assert not probe.direction.any()
    assert probe.antisymmetry == 0.0


def test_a_few_steps_leave_the_papers_probe_at_its_start_and_many_turn_it() -> None:
    features, labels = two_clouds()
    short, long = (
        fit_probe(features, labels, replace(FAST, epochs=epochs), seed=0) for epochs in (1, 300)
    )
    assert short.start is not None
    assert long.start is not None
    assert torch.equal(short.start, long.start)
    assert short.cosine_to_start is not None
    assert long.cosine_to_start is not None
    assert 0.98 < short.cosine_to_start < 1
    assert long.cosine_to_start < 0.6
    assert long.antisymmetry < short.antisymmetry


def test_how_far_training_came_is_told_of_the_row_for_undesired_texts() -> None:
    features, labels = two_clouds()
    probe = replace(
        fit_probe(features, labels, FAST, seed=0),
        weight=torch.tensor([[0.0, -10.0], [6.0, 8.0]]),
        start=torch.tensor([[7.0, 0.0], [0.0, 5.0]]),
    )
    assert probe.cosine_to_start == pytest.approx(0.8)
    assert probe.norm_ratio == pytest.approx(2.0)
    assert probe.antisymmetry == pytest.approx(-0.8)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_texts_are_refused(count: int) -> None:
    features, labels = two_clouds()
    with pytest.raises(InvalidRequest, match="not enough"):
        fit_probe(features[:count], labels[:count], FAST, seed=0)


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_some_texts_are_trained_on_and_some_held_out(fraction: float) -> None:
    features, labels = two_clouds()
    with pytest.raises(InvalidRequest, match="not enough"):
        fit_probe(features, labels, replace(CONVERGED, train_fraction=fraction), seed=0)


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
    assert auc(torch.tensor([3.0, 1.0, 1.0, -1.0]), labels) == (1 + 1 + 0.5 + 1) / 4
    assert auc(torch.tensor([1.5, 0.0, 0.5, 0.0]), labels) == (1 + 1 + 0 + 0.5) / 4
    assert auc(torch.tensor([1.0, 2.0]), torch.tensor([DESIRED, DESIRED])) == 0.5
