"""Uploaded files, as OpenAI's clients call them."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from app.domain.edits.imports import Received, Receiver
from app.domain.fine_tuning.files import Purpose
from app.domain.fine_tuning.jobs import edit_of, inner_file_id, outer_file_id, receipt_of, ulid_of
from app.http.errors import UnsupportedMediaType
from app.http.files import artifact_response
from app.request.auth import Reader, Writer
from app.request.downloading import Downloading
from app.request.form import Form
from app.request.idempotency import CreationDep
from app.request.pagination import Page, PageQuery, page_of
from app.request.strict_input.json_body import content_type
from app.routes.fine_tuning.lines import JsonLines
from app.routes.fine_tuning.views import (
    DeletedFile,
    UploadView,
    file_view,
    receipt_view,
)
from app.services import ServicesDep, Store, StoreDep
from models_store.errors import InvalidRequest, NotFound
from models_store.schemas.records import Artifact
from models_store.work.store import Place

router = APIRouter(prefix="/v1/files", tags=["fine-tuning"])

FORM, JSON, JSON_LINES = "multipart/form-data", "application/json", "application/jsonl"
_PURPOSE: Purpose = "fine-tune"
_FIELDS: dict[str, Any] = {
    "type": "object",
    "required": ["purpose", "file"],
    "properties": {
        "purpose": {"enum": [_PURPOSE]},
        "file": {
            "type": "string",
            "format": "binary",
            "description": "JSON objects, one a line, of at most 1 MiB each.",
        },
    },
}


class _Checked:
    """A file on its way to disk, whose lines are looked at; what is wrong is said once all of it is
    there, since many clients read no response before."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._lines = JsonLines("file", lambda number, line: None)
        self._wrong: InvalidRequest | None = None

    def feed(self, data: bytes) -> None:
        self._receiver.feed(data)
        if self._wrong is None:
            try:
                self._lines.feed(data)
            except InvalidRequest as error:
                self._wrong = error

    def end(self) -> Received:
        if self._wrong is not None:
            raise self._wrong
        self._lines.end()
        return self._receiver.end()


@router.post(
    "",
    summary="Upload a file",
    openapi_extra={"requestBody": {"required": True, "content": {FORM: {"schema": _FIELDS}}}},
)
async def create_file(
    request: Request, services: ServicesDep, who: Writer, creation: CreationDep
) -> UploadView:
    """A form with `purpose` and `file`: examples for fine-tuning. It is stored before the response
    comes."""
    with services.in_flight.hold(who.tenant, "uploads"), ExitStack() as held:
        file = await _received(request, held)
        store = await run_in_threadpool(lambda: services.store)
        id, replayed = await run_in_threadpool(
            store.files.upload, creation.sender(store), file, _PURPOSE
        )
    creation.mark(f"/v1/files/{outer_file_id(id)}", replayed=replayed)
    view, _ = await run_in_threadpool(_found, store, who.tenant, outer_file_id(id))
    return view


async def _received(request: Request, held: ExitStack) -> Received:
    """The file, which is there until `held` is closed."""
    kind = content_type(request)
    if kind != FORM:
        raise UnsupportedMediaType(
            f"send Content-Type: {FORM}, not {kind or 'without one'}",
            headers={"Accept-Post": FORM},
        )
    settings = request.app.state.services.settings
    folder: Path = settings.data / "uploads"
    folder.mkdir(parents=True, exist_ok=True)

    def receive(name: str) -> _Checked:
        receiver = Receiver(name, folder, settings.max_body_bytes)
        held.callback(receiver.close)
        return _Checked(receiver)

    form: Form[Received] = Form(request.headers["content-type"], receive)
    async for piece in request.stream():
        await run_in_threadpool(form.feed, piece)
    form.end()
    _check(form)
    (file,) = form.files
    request.state.sent = {**form.fields, "name": file.name, "sha256": file.sha256}
    return file


def _check(form: Form[Received]) -> None:
    """Raise `InvalidRequest` where the form is not one that is understood."""
    if len(form.files) != 1:
        raise InvalidRequest.at("/file", f"file: send one file, not {len(form.files)}", "missing")
    purpose = form.fields.get("purpose")
    if purpose != _PURPOSE:
        given = "it is missing" if purpose is None else f"{purpose[:100]!r} is not supported"
        raise InvalidRequest.at("/purpose", f"purpose: {given}: send {_PURPOSE!r}")
    for name in form.fields.keys() - {"purpose"}:
        detail = f"{name[:100]}: it is not supported here: leave it out"
        if name.startswith("expires_after"):
            detail = "expires_after: files stay until they are deleted: leave it out"
        raise InvalidRequest.at(f"/{name.partition('[')[0]}", detail, "extra_forbidden")


@router.get("", summary="List files")
def list_files(
    store: StoreDep,
    who: Reader,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    order: Literal["asc", "desc"] = "desc",
    after: Annotated[str | None, Query(max_length=100)] = None,
    purpose: Annotated[str | None, Query(max_length=100)] = None,
) -> Page[UploadView]:
    """The files that were uploaded; receipts of jobs are not among them."""
    position = None if after is None else inner_file_id(after)
    page = PageQuery(limit, order, position)
    if purpose not in (None, _PURPOSE):
        return page_of([], has_more=False)
    ids = (
        id
        for id in sorted(store.files.ids(who.tenant), reverse=page.descending)
        if position is None or (id < position if page.descending else id > position)
    )

    def find(id: str) -> UploadView | None:
        try:
            return file_view(id, store.files.head(who.tenant, id))
        except NotFound:
            return None  # deleted

    views, has_more, looked_at = page.chosen(store.objects, ids, find)
    return page_of(
        views, has_more, looked_at=None if looked_at is None else outer_file_id(looked_at)
    )


@router.get("/{file_id}", summary="Read about a file")
def read_file_info(file_id: str, store: StoreDep, who: Reader) -> UploadView:
    """Its name, size and purpose."""
    return _found(store, who.tenant, file_id)[0]


@router.get(
    "/{file_id}/content",
    summary="Download a file",
    dependencies=[Downloading],
    response_class=Response,
    responses={
        200: {"content": {JSON_LINES: {}}, "description": "The file as it was uploaded"},
        206: {"description": "The requested range"},
        304: {"description": "The client has it"},
        416: {},
    },
)
def read_file_content(file_id: str, request: Request, store: StoreDep, who: Reader) -> Response:
    """What was uploaded; of a job's result the receipt as JSON."""
    file, artifact = _found(store, who.tenant, file_id)
    kind, suffix = (JSON_LINES, "jsonl") if file.purpose == _PURPOSE else (JSON, "json")
    name = f"{file_id}.{suffix}"
    return artifact_response(request, store.objects, artifact, filename=name, media_type=kind)


@router.delete("/{file_id}", summary="Delete a file")
def delete_file(file_id: str, store: StoreDep, who: Writer) -> DeletedFile:
    """Jobs keep a copy of what they were made from. A receipt is deleted with its edit."""
    store.files.delete(who.tenant, inner_file_id(file_id), who.actor)
    return DeletedFile(id=file_id)


def _found(store: Store, tenant: str, file_id: str) -> tuple[UploadView, Artifact]:
    """A file that was uploaded, or the receipt of a job; and where its bytes are.

    Raises:
        NotFound: it is neither.
    """
    id = inner_file_id(file_id)
    try:
        file = store.files.head(tenant, id)
    except NotFound:
        return _receipt(store, tenant, file_id)
    return file_view(id, file), store.files.artifact(tenant, id, file)


def _receipt(store: Store, tenant: str, file_id: str) -> tuple[UploadView, Artifact]:
    work = store.work.find(Place("edit", tenant, edit_of(f"ftjob-{ulid_of(file_id)}")))
    receipt = None if work is None else receipt_of(work)
    if work is None or receipt is None:
        raise NotFound(f"no such file: {file_id[:100]}")
    return receipt_view(work, receipt), receipt
