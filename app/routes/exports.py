"""Exports: files of a variant for other programs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from pydantic import JsonValue

from app.domain.bodies import View
from app.domain.edits.requests import ExportBody
from app.http.files import artifact_response, checked_stream, peeked
from app.http.zip_stream import zip_stream
from app.request.auth import Reader, Writer
from app.request.downloading import Downloading
from app.request.idempotency import CreationDep
from app.request.pagination import IdPageDep, Page, page_of
from app.request.strict_input.json_body import JsonRoute
from app.request.waiting import wait_until_ended
from app.routes.edits.edits import Wait
from app.routes.edits.views import ErrorView
from app.services import ServicesDep, Store, StoreDep
from models_store.errors import Conflict, NotFound
from models_store.schemas.canary import NAME as CANARY
from models_store.schemas.records import (
    Artifact,
    ExportDtype,
    ExportFormat,
    ExportSettings,
    Result,
    Status,
)
from models_store.work.store import Work

router = APIRouter(prefix="/v1/exports", tags=["exports"], route_class=JsonRoute)

_RETRY_SECONDS = 5
_FILE, _JSON = "application/octet-stream", "application/json"


class FileView(View):
    name: str
    """Name of the file."""
    bytes: int
    """Size."""
    sha256: str
    """SHA-256 of the content."""
    url: str
    """Path to download it from."""


class ExportView(View):
    """An export, its status and its files."""

    id: str
    """`exp_…`."""
    object: Literal["export"] = "export"
    """What kind of thing this is: always the same word."""
    status: Status
    """`queued`, `running`, then one of `succeeded`, `failed`, `canceled`."""
    variant: str
    """With ids in place of suffixes."""
    format: ExportFormat
    """What the files are for."""
    dtype: ExportDtype | None
    """Of the matrices in a GGUF file, where it was chosen."""
    files: list[FileView]
    """Empty until it has succeeded."""
    proof: JsonValue
    """Comparison of the files with the variant."""
    created_at: int
    """Unix seconds."""
    finished_at: int | None
    """Unix seconds; null until it has ended."""
    error: ErrorView | None
    """Why it failed; null if it did not."""


class DeletedExport(View):
    id: str
    """The export that was deleted."""
    object: Literal["export"] = "export"
    """What kind of thing this is: always the same word."""
    deleted: Literal[True] = True
    """Always true."""


@router.post("", status_code=201, summary="Export a variant")
def create_export(
    body: ExportBody,
    services: ServicesDep,
    store: StoreDep,
    who: Writer,
    creation: CreationDep,
) -> ExportView:
    """It is made by an editor and compared with the variant before its files can be had."""
    submitted = store.submission.export(creation.sender(store), body, creation.sent)
    services.live.wake_keeper()
    creation.mark(f"/v1/exports/{submitted.work.id}", replayed=submitted.replayed)
    return _view(submitted.work)


@router.get("", summary="List exports")
def list_exports(
    store: StoreDep,
    who: Reader,
    page: IdPageDep,
    status: Status | None = None,
    base_model: str | None = None,
    variant: Annotated[
        str | None,
        Query(
            max_length=1000,
            description="Only exports of this variant, named as in them: with ids in place of "
            "suffixes.",
        ),
    ] = None,
) -> Page[ExportView]:
    """A page is chosen from at most 1,000 exports, as for edits."""
    exports, has_more, looked_at = page.work(
        store.work,
        "export",
        who.tenant,
        status,
        base_model,
        also=lambda work: variant in (None, _settings(work).variant.name),
    )
    return page_of([_view(work) for work in exports], has_more, looked_at=looked_at)


@router.get("/{export_id}", summary="Read an export")
async def read_export(
    export_id: str, services: ServicesDep, who: Reader, wait: Wait = 0
) -> ExportView:
    """With its files once it has succeeded."""
    return _view(await wait_until_ended(services, "export", who.tenant, export_id, wait))


@router.post("/{export_id}/cancel", summary="Cancel an export")
def cancel_export(
    export_id: str, services: ServicesDep, store: StoreDep, who: Writer
) -> ExportView:
    """Again has no further effect; 409 if it has succeeded or failed."""
    work = store.work.cancel("export", who.tenant, export_id, who.actor)
    services.live.wake_keeper()
    return _view(work)


@router.delete("/{export_id}", summary="Delete an export and its files")
def delete_export(
    export_id: str, services: ServicesDep, store: StoreDep, who: Writer
) -> DeletedExport:
    """One that has not ended is canceled."""
    store.work.delete("export", who.tenant, export_id, who.actor)
    services.live.wake_keeper()
    return DeletedExport(id=export_id)


@router.head("/{export_id}/files/{name}", include_in_schema=False)
@router.get(
    "/{export_id}/files/{name}",
    summary="Download a file of an export",
    dependencies=[Downloading],
    response_class=Response,
    responses={
        200: {"content": {_FILE: {}, _JSON: {}}},
        206: {"description": "The requested range"},
        304: {"description": "The client has it"},
        416: {},
    },
)
def read_file(
    export_id: str, name: str, request: Request, store: StoreDep, who: Reader
) -> Response:
    """In whole or in a range."""
    work = store.work.read("export", who.tenant, export_id)
    files = _files(work)
    artifact = next((file for file in files if file.name == name), None)
    if artifact is None:
        raise NotFound(f"{export_id} has no file {name!r}")
    if request.method == "GET":
        store.work.log_download(work, who.actor, file=name, sha256=artifact.sha256)
    media_type = _JSON if name.endswith(".json") else _FILE
    return artifact_response(request, store.objects, artifact, filename=name, media_type=media_type)


@router.get(
    "/{export_id}/archive",
    summary="Download an export as one zip file",
    dependencies=[Downloading],
    response_class=StreamingResponse,
    responses={200: {"content": {"application/zip": {}}}},
)
async def read_archive(export_id: str, services: ServicesDep, who: Reader) -> StreamingResponse:
    """All files, put together while they are sent."""
    store = await run_in_threadpool(lambda: services.store)
    work = await run_in_threadpool(store.work.read, "export", who.tenant, export_id)
    files = _files(work)
    contents = await run_in_threadpool(_contents, store, files)
    await run_in_threadpool(partial(store.work.log_download, work, who.actor, file="archive"))
    return StreamingResponse(
        zip_stream(contents),
        media_type="application/zip",
        headers={"Content-Disposition": f'attachment; filename="{export_id}.zip"'},
    )


def _contents(store: Store, files: tuple[Artifact, ...]) -> list[tuple[str, Iterator[bytes]]]:
    """Names and bytes. What cannot be checked on its way is checked now, and so is the beginning of
    the rest: an archive that breaks off says nothing of why."""
    return [
        (file.name, peeked(checked_stream(store.objects, file, 0, file.bytes))) for file in files
    ]


def _files(work: Work) -> tuple[Artifact, ...]:
    """The files of an export that has succeeded; raises as `succeeded_result`."""
    return tuple(file for file in succeeded_result(work).artifacts if file.name != CANARY)


def succeeded_result(work: Work) -> Result:
    """How an export ended that has succeeded.

    Raises:
        Conflict: `export_not_finished`.
        NotFound: `no_files`.
    """
    if work.result is None:
        raise Conflict(
            f"{work.id} is {work.status}: wait until it has succeeded",
            code="export_not_finished",
            retry_after=_RETRY_SECONDS,
        )
    if work.status != "succeeded":
        raise NotFound(f"{work.id} is {work.status} and has no files", code="no_files")
    return work.result


def _settings(work: Work) -> ExportSettings:
    settings = work.request.settings
    assert isinstance(settings, ExportSettings)
    return settings


def _view(work: Work) -> ExportView:
    settings, result = _settings(work), work.result
    files = _files(work) if work.status == "succeeded" else ()
    return ExportView(
        id=work.id,
        status=work.status,
        variant=settings.variant.name,
        format=settings.format,
        dtype=settings.dtype,
        files=[
            FileView(
                name=file.name,
                bytes=file.bytes,
                sha256=file.sha256,
                url=f"/v1/exports/{work.id}/files/{file.name}",
            )
            for file in files
        ],
        proof=result.outcome_data.get("proof") if result is not None else None,
        created_at=work.request.created_at,
        finished_at=int(result.finished_at) if result is not None else None,
        error=ErrorView.of(work),
    )
