"""Pages of the dashboard; what they show, their scripts ask the API for as anybody does."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute

from app.dashboard import page
from app.dashboard.assets import PREFIX, assets
from app.domain.accounts.api_keys import SCOPES
from app.domain.edits.shares import share_done
from app.domain.variants.names import require_report
from app.http.errors import Unauthorized, status_of
from app.http.files import read_checked
from app.receipts import page_context
from app.request import sign_in
from app.request.auth import Admin, Principal, Reader, count_stranger
from app.routes.edits.outcomes import parse_report
from app.routes.edits.views import EditView, edit_view
from app.services import ServicesDep, Store, StoreDep, services
from models_store import presets
from models_store.errors import ScalpelError
from models_store.registry import Registry
from models_store.schemas.methods import METHODS, Limits
from models_store.schemas.records import STAGES
from models_store.work.store import Work


class _PageRoute(APIRoute):
    """Shows errors as a page; who is not signed in gets the form for it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handler(request)
            except Unauthorized:
                raise
            except ScalpelError as error:
                values = {"error": error, "frame": Frame(EVERY_PAGE, None, "")}
                return await run_in_threadpool(page, "error.html", status_of(error), **values)

        return handled


@dataclass(frozen=True)
class Frame:
    """What is around every page."""

    places: tuple[tuple[str, str], ...]
    """Addresses and names of the pages."""
    key_name: str | None
    """Of the key that the browser is signed in with."""
    csrf_token: str


EVERY_PAGE = (
    ("/dashboard", "Edits"),
    ("/dashboard/playground", "Playground"),
    ("/dashboard/behaviors", "Behaviours"),
    ("/dashboard/models", "Models"),
)
_FOR_ADMINS = ("/dashboard/admin", "Keys and webhooks")

router = APIRouter(prefix="/dashboard", include_in_schema=False, route_class=_PageRoute)
files_router = APIRouter(include_in_schema=False, dependencies=[Depends(count_stranger)])


def _frame(request: Request, who: Principal) -> Frame:
    keys = services(request).settings.auth == "keys"
    key = sign_in.signed_in(request) if keys else None
    places = (*EVERY_PAGE, *([_FOR_ADMINS] if "admin" in who.scopes else []))
    token = sign_in.csrf_token(request) if key is not None else ""
    return Frame(places, key.name if key is not None else None, token)


def _readers(request: Request, who: Reader) -> Frame:
    return _frame(request, who)


def _admins(request: Request, who: Admin) -> Frame:
    return _frame(request, who)


FrameDep = Annotated[Frame, Depends(_readers)]


@files_router.get(PREFIX + "/{version}/{name}")
async def read_file(version: str, name: str, request: Request) -> Response:
    return assets().response(request, version, name)


@router.get("", response_class=HTMLResponse)
def edits(frame: FrameDep) -> Response:
    return page("edits.html", frame=frame)


@router.get("/edits/{edit_id}", response_class=HTMLResponse)
def edit(
    edit_id: str,
    request: Request,
    services: ServicesDep,
    store: StoreDep,
    who: Reader,
    frame: FrameDep,
) -> Response:
    work = store.work.read("edit", who.tenant, edit_id)
    view = edit_view(services, work)
    return page(
        "edit.html",
        frame=frame,
        edit=view,
        title=_title(view),
        url=str(request.base_url).rstrip("/"),
        stages=[(name, share_done(name, 0.0), share_done(name, 1.0)) for name in STAGES],
        formats=tuple(Registry("scalpel.exports")),
        **_receipt(store, work),
    )


@router.get("/new", response_class=HTMLResponse)
def new_edit(frame: FrameDep) -> Response:
    offered = {name: presets.load_preset(name).description for name in presets.preset_names()}
    return page(
        "new.html",
        frame=frame,
        offered={"presets": offered, "methods": ["auto", *METHODS], "max_kl": Limits().max_kl},
    )


@router.get("/playground", response_class=HTMLResponse)
def playground(frame: FrameDep) -> Response:
    return page("playground.html", frame=frame)


@router.get("/behaviors", response_class=HTMLResponse)
def behaviors(frame: FrameDep) -> Response:
    given = {"presets": presets.preset_names()}
    return page("plain.html", frame=frame, at="behaviors", title="Behaviours", given=given)


@router.get("/models", response_class=HTMLResponse)
def models(frame: FrameDep) -> Response:
    return page("plain.html", frame=frame, at="models", title="Models")


@router.get("/admin", response_class=HTMLResponse)
def admin(frame: Annotated[Frame, Depends(_admins)], who: Admin) -> Response:
    scopes = [
        (scope, meaning.replace("`", ""))
        for scope, meaning in SCOPES.items()
        if scope in who.scopes
    ]
    given = {"scopes": scopes}
    return page("plain.html", frame=frame, at="admin", title="Keys and webhooks", given=given)


def _title(view: EditView) -> str:
    if view.suffix is not None:
        return view.suffix
    return view.behavior.name if view.behavior is not None else "Imported edit"


def _receipt(store: Store, work: Work) -> dict[str, Any]:
    """What the parts of a receipt are given, with the number of layers of the base model; nothing
    but that there is none, where there is none."""
    if work.result is None:
        return {"report": None}
    try:
        artifact = require_report(work)
    except ScalpelError:
        return {"report": None}
    report = parse_report(read_checked(store.objects, artifact))
    base = store.bases.find(work.request.base_model)
    layers = base.facts.layers if base is not None and base.facts is not None else None
    return {**page_context(report), "layers": layers}
