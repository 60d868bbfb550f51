"""Fine-tuning jobs, as OpenAI's clients call them: each is an edit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool

from app.domain.edits.requests import EditBody
from app.domain.fine_tuning.events import JobEvent, job_events
from app.domain.fine_tuning.jobs import body_of, edit_of, inner_file_id, is_job, job_id
from app.domain.fine_tuning.requests import FineTuningBody
from app.http.files import checked_stream
from app.request.auth import Reader, Writer
from app.request.filters import MetadataDep
from app.request.idempotency import Creation, CreationDep
from app.request.pagination import Page, PageQuery, T, page_of
from app.request.strict_input.json_body import JsonRoute
from app.routes.edits.event_stream import all_events
from app.routes.fine_tuning.examples import Examples, behavior_of, examples_of
from app.routes.fine_tuning.lines import CODE, objects_of, wrong_file
from app.routes.fine_tuning.views import (
    CheckpointView,
    JobView,
    checkpoint_views,
    job_view,
)
from app.services import Services, ServicesDep, StoreDep
from models_store.errors import FieldError, InvalidRequest, NotFound
from models_store.schemas.records import EditSettings
from models_store.work.store import Work

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning"], route_class=JsonRoute)

_FIELDS = {"base_model": "model", "on_top_of": "model"}
"""What an edit's field is called here; others are in `edit`."""
_MAX_NAME = 100
Limit = Annotated[int, Query(ge=1, le=100)]
After = Annotated[str | None, Query(max_length=100)]


@router.post("", summary="Make a fine-tuning job")
async def create_fine_tuning_job(
    body: FineTuningBody, services: ServicesDep, who: Writer, creation: CreationDep
) -> JobView:
    """Preferences (`dpo`) become the two sides of a behaviour. Conversations (`supervised`) become
    its desired side, and what the base model responds itself the other one."""
    view = await run_in_threadpool(_create, services, who.tenant, body, creation)
    await services.wake_keeper()
    return view


def _create(services: Services, tenant: str, body: FineTuningBody, creation: Creation) -> JobView:
    store = services.store

    with ExitStack() as held:

        def edit() -> EditBody:
            return _edit_body(services, tenant, body, held)

        try:
            submitted = store.submission.edit(creation.sender(store), edit, creation.sent)
        except InvalidRequest as error:
            raise error if error.code == CODE else _as_sent(error, body) from error
    id = job_id(submitted.work.id)
    creation.mark(f"/v1/fine_tuning/jobs/{id}", replayed=submitted.replayed)
    return job_view(submitted.work)


def _edit_body(services: Services, tenant: str, body: FineTuningBody, held: ExitStack) -> EditBody:
    """The edit that a job is.

    Args:
        held: until it is closed, the tenant's requests have so many fewer bytes in memory.

    Raises:
        InvalidRequest: a file is none, or its lines are no examples for the method.
    """
    name, training = _examples(services, tenant, body, "training_file", held)
    validation = None
    if body.validation_file is not None:
        _, validation = _examples(services, tenant, body, "validation_file", held)
    base_model, is_variant, _ = body.model.partition(":")
    return EditBody(
        base_model=base_model[:200],
        on_top_of=body.model if is_variant else None,
        behavior=behavior_of(body.method_type, name[:_MAX_NAME], training, validation),
        seed=body.seed or 0,
        suffix=body.suffix,
        metadata=body.metadata or {},
        method=body.edit.method,
        limits=body.edit.limits,
        effort=body.edit.effort,
    )


def _examples(
    services: Services, tenant: str, body: FineTuningBody, field: str, held: ExitStack
) -> tuple[str, Examples]:
    """What the file in a field is called, and the examples in it."""
    store, file_id, most = services.store, getattr(body, field), services.settings.max_body_bytes
    try:
        id = inner_file_id(file_id)
        file = store.files.artifact(tenant, id, store.files.head(tenant, id))
        held.enter_context(services.in_flight.hold(tenant, "body-bytes", file.bytes))
        lines = objects_of(field, checked_stream(store.objects, file, 0, file.bytes))
        return file.name or field, examples_of(body.method_type, field, lines, most)
    except NotFound:
        raise wrong_file(field, f"{field}: there is no such file: {file_id}") from None


def _as_sent(error: InvalidRequest, body: FineTuningBody) -> InvalidRequest:
    """An error of the edit, said of the fields of the job."""
    if not error.errors:
        return error
    problem = error.errors[0]
    name, _, rest = problem.pointer.removeprefix("/").partition("/")
    if name == "behavior":
        asked = rest.startswith("prompts") and body.validation_file is not None
        field = "validation_file" if asked else "training_file"
        return wrong_file(field, f"{field}: {problem.detail}")
    if name in FineTuningBody.model_fields and name not in ("method",):
        return error
    pointer = f"/{_FIELDS[name]}" if name in _FIELDS else f"/edit{problem.pointer}"
    found = FieldError(pointer, problem.code, problem.detail)
    return InvalidRequest(error.message, code=error.code, errors=[found])


@router.get("", summary="List fine-tuning jobs")
def list_fine_tuning_jobs(
    request: Request,
    store: StoreDep,
    who: Reader,
    metadata: MetadataDep,
    after: After = None,
    limit: Limit = 20,
) -> Page[JobView]:
    """Newest first. Edits that were made otherwise are not among them. With `metadata=null` only
    jobs without metadata."""
    without = request.query_params.get("metadata") == "null"

    def fits(work: Work) -> bool:
        settings = work.request.settings
        assert isinstance(settings, EditSettings)
        given = settings.metadata
        return is_job(work) and metadata.items() <= given.items() and not (without and given)

    page = PageQuery(limit, "desc", None if after is None else edit_of(after))
    jobs, has_more, looked_at = page.work(store.work, "edit", who.tenant, None, None, also=fits)
    views = list(map(job_view, jobs))
    return page_of(views, has_more, looked_at=None if looked_at is None else job_id(looked_at))


@router.get("/{job_id}", summary="Read a fine-tuning job")
def read_fine_tuning_job(job_id: str, store: StoreDep, who: Reader) -> JobView:
    """The job as it is now."""
    return job_view(store.work.read("edit", who.tenant, edit_of(job_id)))


@router.post("/{job_id}/cancel", summary="Cancel a fine-tuning job")
def cancel_fine_tuning_job(
    job_id: str, services: ServicesDep, store: StoreDep, who: Writer
) -> JobView:
    """Its edit ends as soon as its editor sees it; a job that has ended stays as it is: 409."""
    id = _job(store.work.read, who.tenant, job_id).id
    work = store.work.cancel("edit", who.tenant, id, who.actor)
    services.live.wake_keeper()
    return job_view(work)


@router.get("/{job_id}/events", summary="Read the events of a fine-tuning job")
def list_fine_tuning_events(
    job_id: str,
    services: ServicesDep,
    store: StoreDep,
    who: Reader,
    after: After = None,
    limit: Limit = 20,
) -> Page[JobEvent]:
    """Newest first."""
    work = _job(store.work.read, who.tenant, job_id)
    events = job_events(work, all_events(work, services.live))
    return _page([*reversed(events)], after, limit)


@router.get("/{job_id}/checkpoints", summary="List the checkpoints of a fine-tuning job")
def list_fine_tuning_checkpoints(
    job_id: str, store: StoreDep, who: Reader, after: After = None, limit: Limit = 10
) -> Page[CheckpointView]:
    """The trials of its search, which can be served; none before it has succeeded."""
    return _page(checkpoint_views(_job(store.work.read, who.tenant, job_id)), after, limit)


def _job(read: Callable[..., Work], tenant: str, job_id: str) -> Work:
    """The edit that a job is.

    Raises:
        NotFound: there is no such job in this tenant.
    """
    work = read("edit", tenant, edit_of(job_id))
    body_of(work)
    return work


def _page(things: list[T], after: str | None, limit: int) -> Page[T]:
    """Of things by falling id, those after one of them."""
    left = [one for one in things if after is None or str(getattr(one, "id", "")) < after]
    return page_of(left[:limit], len(left) > limit)
