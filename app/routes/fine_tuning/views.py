"""Files, jobs and checkpoints as OpenAI's clients read them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, JsonValue

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
from app.routes.edits.views import View
from models_store.schemas.records import Artifact, EditSettings
from models_store.work.store import Work

T = TypeVar("T", bound=BaseModel)
_RECEIPT_NAME = "receipt.json"


class OpenAIPage(BaseModel, Generic[T]):
    """One page of a list."""

    object: Literal["list"] = "list"
    data: list[T]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileView(View):
    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: Literal["fine-tune", "fine-tune-results"]
    status: Literal["processed"] = "processed"
    status_details: None = None
    expires_at: None = None
    """Files stay until they are deleted."""


class DeletedFile(View):
    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class JobError(View):
    code: str
    message: str
    param: str | None


class JobView(View):
    """A fine-tuning job, which is an edit: `GET /v1/edits/{edit_id}` has all of it."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None
    status: JobStatus
    model: str
    fine_tuned_model: str | None
    """The variant that chat takes as `model`, once it has succeeded."""
    organization_id: str
    """The tenant."""
    training_file: str
    validation_file: str | None
    result_files: list[str]
    """Its receipt as JSON, once there is one."""
    method: dict[str, JsonValue]
    hyperparameters: dict[str, JsonValue]
    """As they were given; none has an effect, which an event says."""
    seed: int
    trained_tokens: int | None
    """Tokens of the texts that it was fitted on."""
    error: JobError | None
    estimated_finish: None = None
    integrations: list[JsonValue]
    metadata: dict[str, str]
    edit_id: str
    """The same job as `GET /v1/edits/{edit_id}` has it."""


class CheckpointView(View):
    """A trial of the search, whose delta is kept and can be served."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuning_job_id: str
    fine_tuned_model_checkpoint: str
    step_number: int
    """The number of the point, as in `base:edit~3`."""
    metrics: dict[str, JsonValue]
    """`step`, and the effect and damage of the point on validation prompts."""


def page_of(data: Iterable[T], has_more: bool) -> OpenAIPage[T]:
    """A page of things that have an `id`."""
    shown = list(data)
    ids = [str(getattr(one, "id", None)) for one in shown]
    return OpenAIPage(
        data=shown,
        first_id=ids[0] if ids else None,
        last_id=ids[-1] if ids else None,
        has_more=has_more,
    )


def file_view(id: str, file: FileVersion) -> FileView:
    return FileView(
        id=outer_file_id(id),
        bytes=file.bytes,
        created_at=file.created_at,
        filename=file.filename,
        purpose=file.purpose,
    )


def receipt_view(work: Work, receipt: Artifact) -> FileView:
    """The receipt of a job as a file."""
    assert work.result is not None
    return FileView(
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
