"""Edits: queue, list, read, cancel, delete."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from app.domain.bodies import View
from app.domain.edits.deletion import delete_with_exports
from app.domain.edits.requests import EditBody
from app.request.auth import READ, WRITE, Reader, Writer, with_scope
from app.request.filters import MetadataDep
from app.request.idempotency import Creation, CreationDep, creation_of
from app.request.pagination import IdPageDep, Page, page_of
from app.request.strict_input.json_body import JsonRoute, directly
from app.request.waiting import wait_until_ended
from app.routes.edits.reader import edit_reader
from app.routes.edits.views import EditView, edit_view, edit_views
from app.services import ServicesDep, Store, StoreDep, open_store_of, services
from models_store.errors import Conflict
from models_store.schemas.records import EditSettings, Status
from models_store.work.store import Work

router = APIRouter(prefix="/v1/edits", tags=["edits"], route_class=JsonRoute)

JSON = "application/json"
MAX_WAIT_SECONDS = 60
Wait = Annotated[
    float,
    Query(
        ge=0,
        le=MAX_WAIT_SECONDS,
        allow_inf_nan=False,
        description="Wait until it has finished, for at most so many seconds.",
    ),
]


class DeletedEdit(View):
    id: str
    """The edit that was deleted."""
    object: Literal["edit"] = "edit"
    """What kind of thing this is: always the same word."""
    deleted: Literal[True] = True
    """Always true."""


async def _create(request: Request, body: EditBody) -> Response | None:
    response = Response()
    creation = await creation_of(request, response)
    if creation is None or request.query_params:
        return None
    store = await open_store_of(request)
    await with_scope(request, WRITE)
    return await _created(request, response, body, store, creation)


@router.post("", status_code=201, response_model=EditView, summary="Queue an edit")
@directly(_create)
async def create_edit(
    body: EditBody,
    request: Request,
    response: Response,
    store: StoreDep,
    who: Writer,
    creation: CreationDep,
) -> Response:
    """Answered once it is stored: from then on it is made, whatever process dies. `warnings` say
    what can be foreseen of its harm."""
    return await _created(request, response, body, store, creation)


async def _created(
    request: Request, response: Response, body: EditBody, store: Store, creation: Creation
) -> Response:
    submitted = await run_in_threadpool(
        store.submission.edit, creation.sender(store), body, creation.sent
    )
    await services(request).wake_keeper()
    creation.mark(f"/v1/edits/{submitted.work.id}", replayed=submitted.replayed)
    shown = await edit_reader(request).show(submitted.work)
    del response.headers["Content-Length"]
    return Response(shown, 201, response.headers, JSON)


@router.get("", response_model=Page[EditView], summary="List edits")
def list_edits(
    services: ServicesDep,
    store: StoreDep,
    who: Reader,
    page: IdPageDep,
    metadata: MetadataDep,
    status: Status | None = None,
    base_model: str | None = None,
    suffix: Annotated[
        str | None, Query(max_length=40, description="Only edits that were given this suffix.")
    ] = None,
    behavior: Annotated[
        str | None,
        Query(
            max_length=200,
            description="Only edits by this behaviour: a preset's name, a `beh_…` id, or the name "
            "of texts in the request.",
        ),
    ] = None,
) -> Response:
    """Newest first by default. A page is chosen from at most 1,000 edits: with filters it may have
    fewer than `limit`, or none, while `has_more` is true. By `suffix` edits are found at once,
    however many there are."""

    def fits(work: Work) -> bool:
        settings, made_for = work.request.settings, work.request.behavior
        assert isinstance(settings, EditSettings)
        names = () if made_for is None else (made_for.id, made_for.name)
        return (
            metadata.items() <= settings.metadata.items()
            and suffix in (None, settings.suffix)
            and (behavior is None or behavior in names)
        )

    among = None if suffix is None else store.variants.given_suffix(who.tenant, suffix, base_model)
    edits, has_more, looked_at = page.work(
        store.work, "edit", who.tenant, status, base_model, also=fits, among=among
    )
    shown = page_of(edit_views(services, edits), has_more, looked_at=looked_at)
    return Response(shown.model_dump_json(), media_type=JSON)


async def _read(request: Request) -> Response | None:
    if request.query_params:
        return None
    who = await with_scope(request, READ)
    shown = await edit_reader(request).read(who.tenant, request.path_params["edit_id"])
    return Response(shown, media_type=JSON)


@router.get("/{edit_id}", response_model=EditView, summary="Read an edit")
@directly(_read)
async def read_edit(
    edit_id: str, request: Request, services: ServicesDep, who: Reader, wait: Wait = 0
) -> Response:
    """With its points. `wait` answers as soon as it has ended."""
    work = await wait_until_ended(services, "edit", who.tenant, edit_id, wait)
    return Response(await edit_reader(request).show(work), media_type=JSON)


@router.post("/{edit_id}/cancel", summary="Cancel an edit")
def cancel_edit(edit_id: str, services: ServicesDep, store: StoreDep, who: Writer) -> EditView:
    """Again has no further effect; 409 if it has succeeded or failed."""
    work = store.work.cancel("edit", who.tenant, edit_id, who.actor)
    services.live.wake_keeper()
    return edit_view(services, work)


@router.delete("/{edit_id}", summary="Delete an edit and its files")
def delete_edit(edit_id: str, services: ServicesDep, store: StoreDep, who: Writer) -> DeletedEdit:
    """With the exports that hold it. One that has not ended is canceled."""
    users = store.aliases.users_of_edit(who.tenant, edit_id)
    if users:
        raise Conflict(
            f"the alias {users[0]} needs {edit_id}: point it elsewhere or delete it first",
            code="in_use",
        )
    delete_with_exports(store.work, who.tenant, edit_id, who.actor)
    services.live.wake_keeper()
    return DeletedEdit(id=edit_id)
