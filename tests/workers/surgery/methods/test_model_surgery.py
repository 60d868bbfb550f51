"""Model Surgery's settings, its terms and its two ways to say alpha, by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from models_store.errors import InvalidRequest
from models_store.weights.architectures import GATE, MatrixKey
from workers.surgery.methods.model_surgery import ModelSurgery
from workers.surgery.methods.model_surgery.fit import (
    PAPER_ALPHA,
    absolute_alpha,
    relative_alpha,
    terms_from,
)
from workers.surgery.probe import ProbeSettings
from workers.surgery.region import Region

KEYS = [MatrixKey(layer, GATE) for layer in range(3)]
DIRECTION = torch.tensor([3.0, 0.0, -4.0], dtype=torch.float64)
REGION = Region(
    rows=(torch.tensor([1, 4]), torch.tensor([], dtype=torch.int64), torch.tensor([0])),
    cosines=(torch.tensor([-0.9, -0.8]), torch.tensor([]), torch.tensor([-0.7])),
    cut=-0.7,
    total_rows=15,
    mean_row_norm=2.0,
)


def test_by_name_alone_the_probe_converges_and_the_scale_is_calibrated() -> None:
    method = ModelSurgery()
    assert method.given_scale is None
    assert ProbeSettings(**method.probe_settings) == ProbeSettings(kind="converged")
    assert ModelSurgery(alpha=2.0).given_scale == ModelSurgery(relative_alpha=2.0).given_scale == 1


def test_the_papers_probe_has_the_papers_settings_and_its_alpha() -> None:
    method = ModelSurgery(probe="paper")
    assert (method.epochs, method.learning_rate, method.batch_size) == (9, 1e-4, 16)
    assert method.weight_decay == 0
    assert method.given_scale == 1
    paper = ProbeSettings(kind="paper", weight_decay=0.0)
    assert ProbeSettings(**method.probe_settings) == paper
    assert paper == ProbeSettings(
        kind="paper", weight_decay=0.0, epochs=9, learning_rate=1e-4, batch_size=16
    )


@pytest.mark.parametrize(
    "training", [{"epochs": 3}, {"learning_rate": 0.01}, {"batch_size": 8}], ids=str
)
def test_whoever_says_how_the_papers_probe_is_trained_means_it(training: dict[str, Any]) -> None:
    method = ModelSurgery(**training)
    assert method == ModelSurgery(probe="paper", **training)
    assert ModelSurgery.model_validate_json(method.model_dump_json()) == method
    assert method.model_dump(include=set(training)) == training


def test_a_record_from_before_there_were_two_probes_means_the_papers() -> None:
    record = {"alpha": None, "epochs": 9, "learning_rate": 1e-4, "batch_size": 16}
    assert ModelSurgery.model_validate(record) == ModelSurgery(probe="paper")
    converged = ModelSurgery(weight_decay=0.5)
    assert ModelSurgery.model_validate(converged.model_dump()) == converged


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("epochs", {"probe": "converged", "epochs": 9}),
        ("learning_rate", {"probe": "converged", "learning_rate": 0.1}),
        ("batch_size", {"probe": "converged", "batch_size": 16}),
        ("weight_decay", {"probe": "paper", "weight_decay": 0.1}),
        ("weight_decay", {"epochs": 2, "weight_decay": 0.1}),
        ("weight_decay", {"weight_decay": 0}),
        ("probe", {"probe": None}),
    ],
    ids=str,
)
def test_a_setting_of_the_other_probe_is_refused(field: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        ModelSurgery.model_validate(settings)
    assert [error["loc"] for error in refused.value.errors()] == [(field,)]


def test_alpha_is_relative_to_the_length_of_the_direction_and_of_rows() -> None:
    assert relative_alpha(1.0, DIRECTION, REGION) == 2.5
    assert relative_alpha(-2.0, DIRECTION, REGION) == -5.0
    assert absolute_alpha(2.5, DIRECTION, REGION) == 1.0
    assert PAPER_ALPHA == 1


def test_every_gate_with_chosen_rows_gets_the_direction_as_it_is() -> None:
    terms = terms_from(KEYS, REGION, DIRECTION, 0.5)
    assert [term.key for term in terms] == [KEYS[0], KEYS[2]]
    assert [term.rows.tolist() for term in terms] == [[1, 4], [0]]
    assert [term.coefficients.tolist() for term in terms] == [[0.5, 0.5], [0.5]]
    for term in terms:
        assert term.direction.tolist() == [3.0, 0.0, -4.0]
    assert terms[0].direction.data_ptr() == terms[1].direction.data_ptr()
    assert terms[0].direction.data_ptr() != DIRECTION.data_ptr()


def test_a_region_over_other_gates_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="2 gates, but a region over 3"):
        terms_from(KEYS[:2], REGION, DIRECTION, 1.0)


def test_the_term_does_not_follow_a_probe_that_is_trained_on() -> None:
    direction = torch.tensor([1.0, 2.0, 3.0])
    (term, _) = terms_from(KEYS, REGION, direction, 1.0)
    direction.zero_()
    assert term.direction.tolist() == [1.0, 2.0, 3.0]
