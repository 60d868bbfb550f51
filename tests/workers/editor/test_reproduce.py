"""What an editor takes over from the edit that it repeats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from app.domain.edits.idempotency import Sender
from models_store.schemas.records import Actor, AttemptEnd
from models_store.schemas.report import Report
from models_store.work.store import Place
from tests.app.support.sample_report import sample_report
from tests.workers.conftest import Bench
from workers.editor.jobs.task import Outcome, Task
from workers.editor.steps.reproduce import as_recorded, earlier_report, with_reproduction


@pytest.fixture
def earlier() -> Report:
    return sample_report()


def repeated(bench: Bench, body: dict[str, Any], report: Report) -> Task:
    """A task that repeats an edit with that report."""
    place = bench.submit_edit(**body)
    task = task_of(bench, place)
    saved = task.save("report", "report.json", report.model_dump_json().encode())
    end = AttemptEnd(attempt=1, outcome="succeeded", artifacts=Outcome((saved,)).artifacts)
    assert bench.store.work.publish(place, end)
    sender = Sender("default", Actor())
    work = bench.store.submission.reproduce(sender, place.id).work
    return task_of(bench, Place("edit", "default", work.id))


def task_of(bench: Bench, place: Place) -> Task:
    claim = bench.store.work.claim(place, "bench")
    assert claim is not None
    return Task(
        request=bench.read(place).request,
        attempt=claim.attempt,
        store=bench.store.work,
        settings=bench.settings,
        report=lambda stage, progress: None,
    )


def test_it_runs_with_the_recorded_threads_and_dtype(
    bench: Bench, body: Callable[..., dict[str, Any]], earlier: Report
) -> None:
    task = repeated(bench, body(), earlier)

    assert earlier_report(task) == earlier
    settings = as_recorded(task, earlier).settings
    assert (settings.threads, settings.dtype) == (2, "bfloat16")
    assert settings.data == bench.settings.data


def test_the_receipt_says_how_the_two_compare(earlier: Report) -> None:
    report = with_reproduction(earlier, earlier)

    assert report.reproduction is not None
    assert report.reproduction.bit_equal


def test_an_edit_that_repeats_none_is_left_alone(
    bench: Bench, body: Callable[..., dict[str, Any]], earlier: Report
) -> None:
    task = task_of(bench, bench.submit_edit(**body()))

    assert earlier_report(task) is None
    assert as_recorded(task, None) is task
    assert with_reproduction(earlier, None) is earlier


def test_a_deleted_original_leaves_nothing_to_compare_with(
    bench: Bench, body: Callable[..., dict[str, Any]], earlier: Report
) -> None:
    task = repeated(bench, body(), earlier)
    assert task.request.settings.kind == "edit"
    bench.store.work.delete("edit", "default", task.request.settings.reproduces or "")

    assert earlier_report(task) is None


@pytest.mark.slow
def test_an_edit_made_again_here_is_the_same_to_the_bit(
    bench: Bench, body: Callable[..., dict[str, Any]]
) -> None:
    first, outcome = bench.edit(**body(effort="quick"))
    made = Report.model_validate_json(bench.file(outcome, "report"))
    sender = Sender("default", Actor())
    again = bench.store.submission.reproduce(sender, first).work
    repeat = bench.do(Place("edit", "default", again.id))
    report = Report.model_validate_json(bench.file(repeat, "report"))

    assert bench.file(repeat, "delta") == bench.file(outcome, "delta")
    found = report.reproduction
    assert found is not None
    assert (found.edit_id, found.bit_equal, found.environment) == (first, True, ())
    assert found.outside == ()
    assert report.effects == made.effects
    assert report.earlier_tests == 1
    _, outcome = bench.edit(**body(effort="quick", seed=made.provenance.seed))
    assert Report.model_validate_json(bench.file(outcome, "report")).earlier_tests == 1
