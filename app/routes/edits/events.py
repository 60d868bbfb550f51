"""What happened to an edit, as a list or as a stream."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from app.domain.events.events import Event
from app.http.negotiation import wanted_type
from app.http.sse import EVENT_STREAM, begun, sse_response
from app.request.auth import Reader, still_allowed
from app.request.pagination import NumberPageDep, Page, PageQuery, page_of
from app.routes.edits.event_stream import all_events, event_stream, has_seen_all
from app.services import Services, ServicesDep
from models_store.errors import Malformed

router = APIRouter(prefix="/v1/edits/{edit_id}/events", tags=["edits"])

JSON = "application/json"


@router.get(
    "",
    summary="Follow an edit",
    response_model=Page[Event],
    responses={
        200: {"content": {EVENT_STREAM: {"schema": {"type": "string"}}}},
        204: {"description": "The client has seen the final event"},
        406: {},
    },
)
async def read_events(
    edit_id: str,
    request: Request,
    services: ServicesDep,
    who: Reader,
    page: NumberPageDep,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """A list; or, with `Accept: text/event-stream`, a stream up to the final event, from after
    `Last-Event-ID` on."""
    if wanted_type(request, (JSON, EVENT_STREAM)) == JSON:
        return await run_in_threadpool(_list, services, who.tenant, edit_id, page)
    last_id = _number(last_event_id, "Last-Event-ID") if last_event_id else 0
    store = await run_in_threadpool(lambda: services.store)
    work = await run_in_threadpool(store.work.read, "edit", who.tenant, edit_id)
    if has_seen_all(work, last_id):
        return Response(status_code=204)
    events = event_stream(services, work, last_id, still_allowed(request))
    return sse_response(await begun(events), Vary="Accept")


def _list(services: Services, tenant: str, edit_id: str, page: PageQuery) -> Response:
    after = int(page.after) if page.after is not None else None
    work = services.store.work.read("edit", tenant, edit_id)
    events = all_events(work, services.live)
    if page.descending:
        events.reverse()
    shown, has_more = page.cut(
        event
        for event in events
        if after is None
        or event.id is None
        or (event.id < after if page.descending else event.id > after)
    )
    body = page_of(shown, has_more).model_dump(mode="json")
    return JSONResponse(body, headers={"Vary": "Accept"})


def _number(text: str, name: str) -> int:
    if not text.strip().isdecimal() or len(text) > 18:
        raise Malformed(f"{name} is the id of an event, a number, not {text!r}", code="bad_request")
    return int(text)
