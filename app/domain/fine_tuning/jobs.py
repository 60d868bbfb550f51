"""A job is an edit, told in OpenAI's words: what it is called and where it is follow from the edit.

`ftjob-ULID` is the edit `edit_ULID`, `file-ULID` the uploaded file `file_ULID`; `file-ULID` of a
job's own ULID is its receipt.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import JsonValue, ValidationError

from app.domain.fine_tuning.requests import FineTuningBody
from models_store.errors import NotFound
from models_store.ids import PREFIXES
from models_store.schemas.records import Artifact, EditSettings, Status
from models_store.work.store import Work

JobStatus = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
_JOB, _FILE = "ftjob", "file"
_ULID = re.compile(r"[0-9A-Z]{26}")
_STATUS: dict[Status, JobStatus] = {
    "queued": "queued",
    "running": "running",
    "succeeded": "succeeded",
    "failed": "failed",
    "canceled": "cancelled",
}


def job_id(edit_id: str) -> str:
    return f"{_JOB}-{ulid_of(edit_id)}"


def edit_of(job_id: str) -> str:
    """The id of the edit that a job is.

    Raises:
        NotFound: no job has such an id.
    """
    return _inner(job_id, _JOB, "edit")


def outer_file_id(id: str) -> str:
    """How clients call a file, or the receipt of an edit."""
    return f"{_FILE}-{ulid_of(id)}"


def inner_file_id(id: str) -> str:
    """How the store calls a file.

    Raises:
        NotFound: no file has such an id.
    """
    return _inner(id, _FILE, "file")


def ulid_of(id: str) -> str:
    """The part of an id behind its kind."""
    return id[-26:]


def _inner(id: str, kind: str, inner: str) -> str:
    name, _, ulid = id.partition("-")
    if name != kind or not _ULID.fullmatch(ulid):
        raise NotFound(f"no such {'job' if kind == _JOB else kind}: {id[:100]}")
    return f"{PREFIXES[inner]}_{ulid}"


def is_job(work: Work) -> bool:
    """Whether an edit was made as a job that this version understands."""
    return _body(work) is not None


def body_of(work: Work) -> FineTuningBody:
    """The body that made a job.

    Raises:
        NotFound: the edit was not made as a job.
    """
    body = _body(work)
    if body is None:
        raise NotFound(f"no such job: {job_id(work.id)}")
    return body


def _body(work: Work) -> FineTuningBody | None:
    settings, body = work.request.settings, work.request.body
    made = isinstance(settings, EditSettings) and settings.reproduces is None
    if not made or not isinstance(body, dict) or "training_file" not in body:
        return None
    try:
        return FineTuningBody.model_validate(body, extra="ignore")
    except ValidationError:
        return None  # of a later version


def status_of(work: Work) -> JobStatus:
    return _STATUS[work.status]


def receipt_of(work: Work) -> Artifact | None:
    """The receipt of a job, if it has one."""
    return work.result.artifact("report") if work.result is not None and is_job(work) else None


def points_of(work: Work) -> list[dict[str, JsonValue]]:
    """Every measured trial of an edit, as the API shows it."""
    points = work.result.outcome_data.get("points") if work.result is not None else None
    listed = points if isinstance(points, list) else []
    return [point for point in listed if isinstance(point, dict)]
