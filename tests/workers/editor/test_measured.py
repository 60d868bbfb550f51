"""Variants that are measured as they are, on pico models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from models_store.errors import InvalidRequest
from models_store.schemas.report import Report
from models_store.weights.delta import load_delta
from tests.workers.conftest import Bench, Made, small_edit
from workers.editor.jobs.task import Outcome
from workers.runtime.edits.deltas import from_delta
from workers.surgery.terms import Term, by_matrix, change, union_of_rows

Body = Callable[..., dict[str, Any]]
STRONG = {"type": "model_surgery", "relative_alpha": 8.0, "epochs": 2}


@pytest.fixture
def bench(shared_bench: Bench) -> Bench:
    return shared_bench


@pytest.fixture(scope="module")
def strong(shared_bench: Bench) -> Made:
    return Made(*shared_bench.edit(**small_edit(method=STRONG)), [])


@pytest.fixture(scope="module")
def strong_by_seed_3(shared_bench: Bench) -> Made:
    return Made(*shared_bench.edit(**small_edit(method=STRONG, seed=3)), [])


def _report(bench: Bench, outcome: Outcome) -> Report:
    return Report.model_validate_json(bench.file(outcome, "report"))


def _terms(bench: Bench, outcome: Outcome) -> list[Term]:
    return from_delta(load_delta(bench.file(outcome, "delta")))


def test_an_edit_that_is_measured_again_has_its_own_figures(
    bench: Bench, strong_by_seed_3: Made
) -> None:
    made, first = strong_by_seed_3.id, strong_by_seed_3.outcome
    _, second = bench.measure(variant=f"pico:{made}", effort="quick")
    one, two = _report(bench, first), _report(bench, second)
    assert two.effects == one.effects
    assert two.damage == one.damage
    assert two.provenance.seed == 3, "with another seed texts that it was fitted on are tested on"
    assert two.provenance.terms_sha256 == one.provenance.terms_sha256
    assert two.provenance.measures == f"pico:{made}"
    assert (two.method.type, two.probe, two.composition) == ("given", None, ())
    assert [control.kind for control in two.controls] == ["random_direction"]


def test_another_strength_is_measured_as_it_is_served(bench: Bench, strong: Made) -> None:
    made, first = strong.id, strong.outcome
    _, half = bench.measure(variant=f"pico:{made}@0.5", effort="quick")
    for whole, halved in zip(_terms(bench, first), _terms(bench, half), strict=True):
        torch.testing.assert_close(halved.coefficients, 0.5 * whole.coefficients, rtol=0, atol=0)
    assert _report(bench, half).damage.kl < _report(bench, first).damage.kl


def test_edits_together_are_measured_alone_and_with_the_others(
    bench: Bench, body: Body, strong: Made
) -> None:
    one, first = strong.id, strong.outcome
    behavior = {**body()["behavior"], "name": "manners"}
    two, second = bench.edit(**body(behavior=behavior, method={**STRONG, "epochs": 3}, seed=1))
    id, together = bench.measure(variant=f"pico:{one}+{two}@0.5", effort="quick")
    report = _report(bench, together)
    assert report.provenance.behavior.name == "manners", "by default that of the last edit"
    assert {trait.behavior for trait in report.composition} == {"mood", "manners"}
    # Each edit is "the others" of the other one.
    moods = [trait for trait in report.composition if trait.behavior == "mood"]
    assert {trait.scorer for trait in moods} == set(_names(_report(bench, first)))
    expected = [(_terms(bench, first), 1.0), (_terms(bench, second), 0.5)]
    weighted = by_matrix((term, strength) for terms, strength in expected for term in terms)
    measured = by_matrix((term, 1.0) for term in _terms(bench, together))
    assert weighted.keys() == measured.keys()
    for key, terms in weighted.items():
        rows = union_of_rows(terms)
        torch.testing.assert_close(
            change(measured[key], rows, torch.float32), change(terms, rows, torch.float32)
        )
    again = bench.reproduce(id)
    assert bench.file(bench.do(again), "delta") == bench.file(together, "delta")


def _names(report: Report) -> list[str]:
    return [card.info.name for card in report.scorers]


def test_another_behavior_is_measured_by_its_own_texts(
    bench: Bench, body: Body, strong_by_seed_3: Made
) -> None:
    behavior = {**body()["behavior"], "name": "manners"}
    variant = f"pico:{strong_by_seed_3.id}"
    _, outcome = bench.measure(variant=variant, behavior=behavior, effort="quick")
    provenance = _report(bench, outcome).provenance
    assert (provenance.behavior.name, provenance.seed) == ("manners", 0)


def test_an_edit_that_does_nothing_has_no_effect_to_show(bench: Bench, body: Body) -> None:
    method = {"type": "model_surgery", "relative_alpha": 0.0, "epochs": 2}
    made, _ = bench.edit(**body(method=method))
    _, outcome = bench.measure(variant=f"pico:{made}", effort="quick")
    report = _report(bench, outcome)
    assert report.controls == ()
    assert not report.verdict.success
    assert "No significant change" in report.verdict.sentence
    assert report.damage.kl == 0


def test_what_cannot_be_measured_is_named(bench: Bench, body: Body) -> None:
    with pytest.raises(InvalidRequest, match="changes nothing") as nothing:
        bench.measure(variant="pico")
    assert nothing.value.errors[0].pointer == "/variant"
    made = bench.make_up(**body())
    with pytest.raises(InvalidRequest, match="changes nothing"):
        bench.measure(variant=f"pico:{made}@0")
    behavior = {**body()["behavior"], "scorers": ["no_such_scorer"]}
    with pytest.raises(InvalidRequest, match="no_such_scorer") as scorer:
        bench.measure(variant=f"pico:{made}", behavior=behavior)
    assert scorer.value.errors[0].pointer == "/behavior/scorers/0"
