"""Files, jobs and checkpoints as OpenAI's clients read them."""

from __future__ import annotations

from typing import Literal

from pydantic import JsonValue

from app.domain.bodies import View
from app.domain.fine_tuning.files import FileVersion
from app.domain.fine_tuning.jobs import (
    JobStatus,
    body_of,
    job_id,
    outer_file_id,
    points_of,
    receipt_of,
    status_of,
    ulid_of,
)
from app.domain.fine_tuning.requests import FineTuningBody
from app.domain.variants.names import variant_name
from models_store.schemas.records import Artifact, EditSettings
from models_store.work.store import Work

_RECEIPT_NAME = "receipt.json"


class UploadView(View):
    id: str
    """`file-…`."""
    object: Literal["file"] = "file"
    """What kind of thing this is: always the same word."""
    bytes: int
    """Of the file."""
    created_at: int
    """Seconds since 1970."""
    filename: str
    """As it was uploaded."""
    purpose: Literal["fine-tune", "fine-tune-results"]
    """`fine-tune`: examples that were uploaded; `fine-tune-results`: the receipt of a job."""
    status: Literal["processed"] = "processed"
    """A file that is listed can be used."""
    status_details: None = None
    """Always null."""
    expires_at: None = None
    """Files stay until they are deleted."""


class DeletedFile(View):
    id: str
    """`file-…`."""
    object: Literal["file"] = "file"
    """What kind of thing this is: always the same word."""
    deleted: Literal[True] = True
    """It is no longer there."""


class JobError(View):
    code: str
    """That of the edit's error."""
    message: str
    """For people: what went wrong, and what to do."""
    param: str | None
    """`training_file` where that is to blame."""


class JobView(View):
    """A fine-tuning job, which is an edit: `GET /v1/edits/{edit_id}` has all of it."""

    id: str
    """`ftjob-…`."""
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    """What kind of thing this is: always the same word."""
    created_at: int
    """Seconds since 1970."""
    finished_at: int | None
    """Seconds since 1970; null until it has ended."""
    status: JobStatus
    """In OpenAI's words; never `validating_files`, which is done before there is a job."""
    model: str
    """The base model or variant that is fine-tuned, as it was given."""
    fine_tuned_model: str | None
    """The variant that chat takes as `model`, once it has succeeded."""
    organization_id: str
    """The tenant."""
    training_file: str
    """As it was given."""
    validation_file: str | None
    """As it was given."""
    result_files: list[str]
    """Its receipt as JSON, once there is one."""
    method: dict[str, JsonValue]
    """Its type, and the hyperparameters as they were given."""
    hyperparameters: dict[str, JsonValue]
    """As they were given; none has an effect, which an event says."""
    seed: int
    """It draws splits, samples and controls."""
    trained_tokens: int | None
    """Tokens of the texts that it was fitted on."""
    error: JobError | None
    """Why it failed."""
    estimated_finish: None = None
    """Always null: the edit's events have the time that is left."""
    integrations: list[JsonValue]
    """Always empty."""
    metadata: dict[str, str]
    """As it was given."""
    edit_id: str
    """The same job as `GET /v1/edits/{edit_id}` has it."""


class CheckpointView(View):
    """A trial of the search, whose delta is kept and can be served."""

    id: str
    """`ftckpt-…`."""
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    """What kind of thing this is: always the same word."""
    created_at: int
    """Seconds since 1970."""
    fine_tuning_job_id: str
    """The job."""
    fine_tuned_model_checkpoint: str
    """The variant that chat takes as `model`."""
    step_number: int
    """The number of the point, as in `base:edit~3`."""
    metrics: dict[str, JsonValue]
    """`step`, and the effect and damage of the point on validation prompts."""


def file_view(id: str, file: FileVersion) -> UploadView:
    return UploadView(
        id=outer_file_id(id),
        bytes=file.bytes,
        created_at=file.created_at,
        filename=file.filename,
        purpose=file.purpose,
    )


def receipt_view(work: Work, receipt: Artifact) -> UploadView:
    """The receipt of a job as a file."""
    assert work.result is not None
    return UploadView(
        id=outer_file_id(work.id),
        bytes=receipt.bytes,
        created_at=int(work.result.finished_at),
        filename=_RECEIPT_NAME,
        purpose="fine-tune-results",
    )


def job_view(work: Work) -> JobView:
    """An edit as a job.

    Raises:
        NotFound: it was not made as one.
    """
    body, request, result = body_of(work), work.request, work.result
    settings = request.settings
    assert isinstance(settings, EditSettings)
    outcome = result.outcome_data if result is not None else {}
    tokens = outcome.get("fit_tokens")
    return JobView(
        id=job_id(work.id),
        created_at=request.created_at,
        finished_at=int(result.finished_at) if result is not None else None,
        status=status_of(work),
        model=body.model,
        fine_tuned_model=variant_name(work) if work.status == "succeeded" else None,
        organization_id=request.tenant,
        training_file=body.training_file,
        validation_file=body.validation_file,
        result_files=[outer_file_id(work.id)] if receipt_of(work) is not None else [],
        method={"type": body.method_type, body.method_type: {"hyperparameters": _numbers(body)}},
        hyperparameters=_numbers(body),
        seed=settings.seed,
        trained_tokens=tokens if isinstance(tokens, int) else None,
        error=_error(work),
        integrations=[],
        metadata=settings.metadata,
        edit_id=work.id,
    )


def checkpoint_views(work: Work) -> list[CheckpointView]:
    """The points of a job that can be served, the last one first."""
    result = work.result
    if result is None or work.status != "succeeded":
        return []
    views = []
    for point in reversed(points_of(work)):
        index = point.get("index")
        if isinstance(index, int) and result.artifact(f"point-{index}") is not None:
            views.append(
                CheckpointView(
                    id=f"ftckpt-{ulid_of(work.id)}-{index:03}",
                    created_at=int(result.finished_at),
                    fine_tuning_job_id=job_id(work.id),
                    fine_tuned_model_checkpoint=variant_name(work, point=index),
                    step_number=index,
                    metrics={"step": index, **point},
                )
            )
    return views


def _numbers(body: FineTuningBody) -> dict[str, JsonValue]:
    given = body.given_hyperparameters.model_dump()
    return {name: "auto" if value is None else value for name, value in given.items()}


def _error(work: Work) -> JobError | None:
    error = work.result.error if work.result is not None else None
    if error is None:
        return None
    param = "training_file" if error.code in ("invalid_behavior", "behavior_not_shown") else None
    return JobError(code=error.code, message=error.message, param=param)
