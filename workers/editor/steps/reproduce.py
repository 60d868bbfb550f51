"""An edit that repeats another: made as that one was, and compared with it."""

from __future__ import annotations

from dataclasses import replace

import structlog

from models_store.errors import CorruptArtifact, NewerRecord, NotFound
from models_store.objects.versions import parse_stored
from models_store.schemas.records import EditSettings
from models_store.schemas.report import Report
from workers.editor.jobs.task import Task
from workers.evaluation.extras.reproduction import compare_reports

_log = structlog.get_logger()


def earlier_report(task: Task) -> Report | None:
    """The receipt of the edit that this one repeats.

    None where it repeats none, or where that one was deleted or its receipt is damaged: the edit
    is made all the same, without a comparison.

    Raises:
        Unavailable: the store stayed away.
    """
    settings = task.request.settings
    assert isinstance(settings, EditSettings)
    if settings.reproduces is None:
        return None
    id, tenant = settings.reproduces, task.request.tenant
    try:
        work = task.patiently(lambda: task.store.read("edit", tenant, id))
        artifact = work.result.artifact("report") if work.result is not None else None
        if artifact is None:
            return None
        return parse_stored(Report, task.read(artifact.path, artifact.sha256), "its receipt")
    except (NotFound, CorruptArtifact, NewerRecord) as error:
        _log.warning("the edit to repeat cannot be read", edit=id, error=str(error))
        return None


def as_recorded(task: Task, earlier: Report | None) -> Task:
    """The task with the threads and the dtype that the earlier edit was made with.

    Both decide in which order numbers are added up and rounded; the device is this editor's own.
    """
    if earlier is None:
        return task
    recorded = {"threads": earlier.cost.threads, "dtype": earlier.cost.dtype}
    return replace(task, settings=task.settings.model_copy(update=recorded))


def with_reproduction(report: Report, earlier: Report | None) -> Report:
    """The receipt with the comparison in it."""
    if earlier is None:
        return report
    return report.model_copy(update={"reproduction": compare_reports(earlier, report)})
