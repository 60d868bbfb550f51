"""What came of an edit: its report and its delta."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse

from app.domain.variants.names import delta_artifact, require_report
from app.http.files import artifact_response, read_checked
from app.http.negotiation import wanted_type
from app.request.auth import Reader
from app.request.downloading import Downloading
from app.services import StoreDep
from models_store.objects.versions import parse_stored
from models_store.schemas.report import Report

router = APIRouter(prefix="/v1/edits/{edit_id}", tags=["edits"])

JSON, HTML, MARKDOWN = "application/json", "text/html", "text/markdown"
DELTA = "application/octet-stream"
JSON_LINES = "application/jsonl"


@router.head("/report", include_in_schema=False)
@router.get(
    "/report",
    summary="Read an edit's report",
    response_class=Response,
    responses={
        200: {"model": Report, "content": {HTML: {}, MARKDOWN: {}}},
        206: {"description": "The requested range"},
        304: {"description": "The client has it"},
        406: {},
        416: {},
    },
)
def read_report(edit_id: str, request: Request, store: StoreDep, who: Reader) -> Response:
    """The receipt as JSON, as a page (`Accept: text/html`) or a model card (`text/markdown`)."""
    kind = wanted_type(request, (JSON, HTML, MARKDOWN))
    edit = store.work.read("edit", who.tenant, edit_id)
    artifact = require_report(edit)
    if kind == JSON:
        response = artifact_response(
            request,
            store.objects,
            artifact,
            filename=f"{edit_id}.report.json",
            media_type=JSON,
        )
        response.headers["Content-Disposition"] = "inline"
        response.headers["Vary"] = "Accept"
        return response
    from app.receipts import content_security_policy, render

    report = parse_report(read_checked(store.objects, artifact))
    text = render(report, "html" if kind == HTML else "markdown")
    headers = {"Vary": "Accept"}
    if kind == HTML:
        headers["Content-Security-Policy"] = content_security_policy()
        return HTMLResponse(text, headers=headers)
    return Response(text, headers=headers, media_type=f"{MARKDOWN}; charset=utf-8")


@router.head("/delta", include_in_schema=False)
@router.get(
    "/delta",
    summary="Download an edit's delta",
    dependencies=[Downloading],
    response_class=Response,
    responses={
        200: {"content": {DELTA: {}}, "description": "The delta as safetensors"},
        206: {"description": "The requested range"},
        304: {"description": "The client has it"},
        416: {},
    },
)
def read_delta(
    edit_id: str,
    request: Request,
    store: StoreDep,
    who: Reader,
    point: Annotated[int | None, Query(ge=0)] = None,
) -> Response:
    """The weight difference of the selected point, or of another one."""
    edit = store.work.read("edit", who.tenant, edit_id)
    artifact = delta_artifact(edit, point)
    store.variants.require_covered_point(edit, point, who.actor)
    if request.method == "GET":
        store.work.log_download(edit, who.actor, point=point, sha256=artifact.sha256)
    suffix = "" if point is None else f".point-{point}"
    return artifact_response(
        request,
        store.objects,
        artifact,
        filename=f"{edit_id}{suffix}.safetensors",
        media_type=DELTA,
    )


@router.get(
    "/texts",
    summary="Download an edit's texts",
    response_class=Response,
    responses={200: {"content": {JSON_LINES: {}}, "description": "A behaviour as JSON lines"}},
)
def read_texts(edit_id: str, store: StoreDep, who: Reader) -> Response:
    """Its behaviour as JSON lines: all but the texts, then one text a line. A behaviour that names
    a scorer has none until the edit has made them."""
    edit = store.work.read("edit", who.tenant, edit_id)
    return Response(store.work.texts_of(edit), media_type=JSON_LINES)


def parse_report(data: bytes) -> Report:
    """A stored report.

    Raises:
        CorruptArtifact: it is not one.
        NewerRecord: a later version of Scalpel wrote it.
    """
    return parse_stored(Report, data, "the stored report")
