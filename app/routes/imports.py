"""Imports: what others made becomes an edit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import TypeAdapter
from pydantic_core import to_json

from app.domain.edits.imports import Received, Receiver, unpacked
from app.domain.edits.requests import ImportBody
from app.http.errors import UnsupportedMediaType
from app.request.auth import Writer
from app.request.form import Form
from app.request.idempotency import CreationDep
from app.request.strict_input.json_body import content_type, parse_json, read_json, validated
from app.routes.edits.views import EditView, edit_view
from app.services import ServicesDep
from models_store.errors import InvalidRequest

router = APIRouter(prefix="/v1/imports", tags=["edits"])

JSON, FORM = "application/json", "multipart/form-data"
_BODY: TypeAdapter[ImportBody] = TypeAdapter(ImportBody)
_DOCUMENTED = ImportBody.model_json_schema(ref_template="#/components/schemas/{model}")
del _DOCUMENTED["$defs"]  # they are among the components already
_FIELDS: dict[str, Any] = {
    "type": "object",
    "required": ["base_model", "file"],
    "properties": {
        "base_model": {"type": "string"},
        "file": {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "description": "`adapter_config.json` and `adapter_model.safetensors`, or a zip file "
            "with both; or a `delta.safetensors` of Scalpel's; or a control vector.",
        },
        "suffix": {"type": "string"},
        "metadata": {"type": "string", "description": "A JSON object of strings."},
    },
}


@router.post(
    "",
    status_code=201,
    summary="Import an edit that was made elsewhere",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                FORM: {"schema": _FIELDS},
                JSON: {"schema": _DOCUMENTED},
            },
        }
    },
)
async def create_import(
    request: Request, services: ServicesDep, who: Writer, creation: CreationDep
) -> EditView:
    """A LoRA adapter of PEFT, another Scalpel's delta, or a control vector: as a form with files,
    or as JSON that names a public repository on the hub. Or the difference of another registered
    model of the same shape: as JSON that names it. It becomes an edit like any other, but without a
    receipt."""
    with services.in_flight.hold(who.tenant, "imports"), ExitStack() as held:
        body, files = await _received(request, who, held)
        store = await run_in_threadpool(lambda: services.store)
        submitted = await run_in_threadpool(
            store.submission.imported, creation.sender(store), body, creation.sent, files
        )
    await services.wake_keeper()
    creation.mark(f"/v1/edits/{submitted.work.id}", replayed=submitted.replayed)
    return await run_in_threadpool(edit_view, services, submitted.work)


async def _received(
    request: Request, who: Writer, held: ExitStack
) -> tuple[ImportBody, list[Received]]:
    """The request, and its files, which are there until `held` is closed."""
    kind = content_type(request)
    if kind == JSON:
        body = await read_json(request, who, held, _BODY)
        if body.source is None:
            raise InvalidRequest.at("/source", "name a repository, or send a form", "missing")
        return body, []
    if kind != FORM:
        raise UnsupportedMediaType(
            f"send Content-Type: {FORM} or {JSON}, not {kind or 'without one'}",
            headers={"Accept-Post": f"{FORM}, {JSON}"},
        )
    receive, most = _receiver(request, held)
    form: Form[Received] = Form(request.headers["content-type"], lambda name: receive(name, most))
    async for piece in request.stream():
        await run_in_threadpool(form.feed, piece)
    form.end()
    files = await run_in_threadpool(unpacked, form.files, receive, most)
    fields: dict[str, Any] = dict(form.fields)
    if "metadata" in fields:
        fields["metadata"] = parse_json(form.fields["metadata"].encode(), "metadata")
    described = [{"name": file.name, "sha256": file.sha256} for file in form.files]
    request.state.sent = {**fields, "files": described}
    return validated(_BODY, to_json(fields), fields), files


def _receiver(request: Request, held: ExitStack) -> tuple[Callable[[str, int], Receiver], int]:
    """Makes places for files on disk, which are gone with `held`; and how large each may be."""
    settings = request.app.state.services.settings
    folder: Path = settings.data / "uploads"
    folder.mkdir(parents=True, exist_ok=True)

    def receive(name: str, most: int) -> Receiver:
        receiver = Receiver(name, folder, most)
        held.callback(receiver.close)
        return receiver

    return receive, settings.max_import_bytes
