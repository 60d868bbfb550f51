"""Edits of behaviours that name a scorer in place of texts, on a pico model with two moods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from models_store.errors import EditFailed
from models_store.schemas.behaviors import from_lines
from models_store.schemas.records import DeltaRef, Variant
from models_store.schemas.report import Report
from tests.workers.conftest import Bench
from tests.workers.taught import by_scorer
from workers.editor.jobs.inputs import parents_of
from workers.editor.jobs.task import Outcome, Task

METHOD = {"type": "bias", "layers": [1]}


@dataclass
class Made:
    id: str
    outcome: Outcome
    report: Report
    told: list[tuple[Any, float]]


@pytest.fixture(scope="module")
def made(taught: Bench) -> Made:
    id, outcome = taught.edit(**by_scorer() | {"method": METHOD})
    report = Report.model_validate_json(taught.file(outcome, "report"))
    return Made(id, outcome, report, list(taught.told))


def test_a_scorer_alone_is_enough(made: Made) -> None:
    report = made.report
    assert [card.info.name for card in report.scorers] == ["vader", "tfidf"]
    assert report.leading.rate.edited < 0.6 * report.leading.rate.base
    assert report.made_texts is not None
    assert report.made_texts.scorer == "vader"
    splits = report.splits
    undesired = splits.fit_undesired + splits.scorer_undesired + splits.heldout_undesired
    assert undesired == report.made_texts.texts
    tested = splits.validate_prompts + splits.test_prompts
    assert tested + splits.prompts_dropped + report.made_texts.prompts == 90
    assert report.provenance.behavior.counts == {"undesired": 0, "desired": 0, "prompts": 90}


def test_making_texts_is_the_first_part_of_a_stage_that_never_goes_back(made: Made) -> None:
    shares = [share for stage, share in made.told if stage == "extract"]
    assert shares.count(0.0) == 1
    assert shares == sorted(shares)
    assert 0.8 in [round(share, 6) for share in shares]


def test_a_repeat_begins_with_the_texts_that_were_made(taught: Bench, made: Made) -> None:
    place = taught.reproduce(made.id)
    lines = taught.store.work.read_texts(taught.read(place).request)
    assert lines == taught.file(made.outcome, "texts")
    outcome = taught.do(place)
    report = Report.model_validate_json(taught.file(outcome, "report"))
    assert report.reproduction is not None
    assert report.reproduction.bit_equal
    assert report.made_texts == made.report.made_texts
    assert taught.file(outcome, "delta") == taught.file(made.outcome, "delta")
    assert "texts" not in [artifact.name for artifact in outcome.artifacts]
    # And so does a repeat of the repeat.
    again = taught.read(taught.reproduce(place.id)).request
    assert taught.store.work.read_texts(again) == lines


def test_an_edit_on_top_of_it_looks_at_the_made_texts(taught: Bench, made: Made) -> None:
    place = taught.submit_edit(**by_scorer())
    request = taught.read(place).request
    task = Task(request, 1, taught.store.work, taught.settings, lambda stage, share: None)
    ref = DeltaRef(edit_id=made.id, path="", sha256="", strength=1.0)
    variant = Variant(name="", base_model="taught", base_fingerprint="", terms=(ref,))
    (parent,) = parents_of(task, variant)
    behavior, _ = from_lines(taught.file(made.outcome, "texts"))
    assert parent.behavior == behavior
    assert len(parent.splits.fit) > 0


def test_an_edit_whose_model_never_shows_it_fails_before_anything_is_fitted(taught: Bench) -> None:
    with pytest.raises(EditFailed, match="formality-markers flags 0 of") as caught:
        taught.edit(**by_scorer(scorer="formality-markers"))
    assert caught.value.code == "behavior_not_shown"
