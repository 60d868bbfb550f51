"""Edits: queue, list, read, cancel, delete."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from app.domain.edits.requests import EditBody
from app.request.auth import Reader, Writer
from app.request.idempotency import CreationDep
from app.request.pagination import IdPageDep, Page, page_of
from app.request.strict_input.json_body import JsonRoute
from app.request.waiting import wait_until_ended
from app.routes.edits.reader import edit_reader
from app.routes.edits.views import EditView, edit_view, edit_views
from app.services import ServicesDep, StoreDep
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


class DeletedEdit(BaseModel):
    id: str
    object: Literal["edit"] = "edit"
    deleted: Literal[True] = True


@router.post("", status_code=201, response_model=EditView, summary="Queue an edit")
async def create_edit(
    body: EditBody,
    request: Request,
    response: Response,
    services: ServicesDep,
    store: StoreDep,
    who: Writer,
    creation: CreationDep,
) -> Response:
    submitted = await run_in_threadpool(
        store.submission.edit, creation.sender(store), body, creation.sent
    )
    await services.wake_keeper()
    creation.mark(f"/v1/edits/{submitted.work.id}", replayed=submitted.replayed)
    shown = await edit_reader(request).show(submitted.work)
    return Response(shown, 201, response.headers, JSON)


@router.get("", summary="List edits")
def list_edits(
    request: Request,
    services: ServicesDep,
    store: StoreDep,
    who: Reader,
    page: IdPageDep,
    status: Status | None = None,
    base_model: str | None = None,
    metadata: Annotated[
        str | None,
        Query(
            alias="metadata[key]",
            description="Only edits with this value of `key` in their metadata; `key` is any name.",
        ),
    ] = None,
) -> Page[EditView]:
    """Newest first by default. A page is chosen from at most 1,000 edits: with filters it may have
    fewer than `limit`, or none, while `has_more` is true."""
    wanted = {
        name[len("metadata[") : -1]: value
        for name, value in request.query_params.items()
        if name.startswith("metadata[") and name.endswith("]")
    }

    def has_metadata(work: Work) -> bool:
        settings = work.request.settings
        assert isinstance(settings, EditSettings)
        return wanted.items() <= settings.metadata.items()

    edits, has_more, looked_at = page.work(
        store.work, "edit", who.tenant, status, base_model, also=has_metadata
    )
    return page_of(edit_views(services, edits), has_more, looked_at=looked_at)


@router.get("/{edit_id}", response_model=EditView, summary="Read an edit")
async def read_edit(
    edit_id: str, request: Request, services: ServicesDep, who: Reader, wait: Wait = 0
) -> Response:
    if wait:
        await wait_until_ended(services, "edit", who.tenant, edit_id, wait)
    shown = await edit_reader(request).read(who.tenant, edit_id)
    return Response(shown, media_type=JSON)


@router.post("/{edit_id}/cancel", summary="Cancel an edit")
def cancel_edit(edit_id: str, services: ServicesDep, store: StoreDep, who: Writer) -> EditView:
    work = store.work.cancel("edit", who.tenant, edit_id, who.actor)
    services.live.wake_keeper()
    return edit_view(services, work)


@router.delete("/{edit_id}", summary="Delete an edit and its files")
def delete_edit(edit_id: str, services: ServicesDep, store: StoreDep, who: Writer) -> DeletedEdit:
    store.work.read("edit", who.tenant, edit_id)
    users = store.aliases.users_of_edit(who.tenant, edit_id)
    if users:
        raise Conflict(
            f"the alias {users[0]} needs {edit_id}: point it elsewhere or delete it first",
            code="in_use",
        )
    store.work.delete("edit", who.tenant, edit_id, who.actor)
    services.live.wake_keeper()
    return DeletedEdit(id=edit_id)
