"""Canaries of exports: what a server that runs one is expected to answer, and whether it does."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from app.domain.bodies import RequestBody
from app.domain.canaries.asking import CanaryCheck, check
from app.domain.canaries.sending import checked_post
from app.http.files import artifact_response, read_checked
from app.request.auth import Reader, Writer
from app.request.strict_input.json_body import JsonRoute, bounded
from app.routes.exports import succeeded_result
from app.services import ServicesDep, Store, StoreDep, open_store_of
from models_store.errors import NotFound
from models_store.ids import VISIBLE
from models_store.objects.versions import parse_stored
from models_store.operator.policy import UNSAFE
from models_store.schemas.canary import NAME, Canary
from models_store.schemas.records import Actor, Artifact, ExportSettings
from models_store.work.store import Work

router = APIRouter(prefix="/v1/exports", tags=["exports"], route_class=JsonRoute)

_JSON = "application/json"


class CanaryBody(RequestBody):
    """The server to ask."""

    url: Annotated[str, Field(min_length=1, max_length=2_000)]
    """Where its API is, with or without `/v1`: an address that requests may go to, as webhooks."""
    model: Annotated[str, Field(min_length=1, max_length=1_000)]
    """What it calls the model or adapter."""
    base_model: Annotated[str, Field(min_length=1, max_length=1_000)] | None = None
    """What it calls the base model, where it serves both: then the difference of the two counts,
    whatever the weights are rounded to."""
    api_key: Annotated[str, Field(pattern=VISIBLE)] | None = None
    """For that server, sent as a bearer token; it is not kept."""


@router.get(
    "/{export_id}/canary",
    summary="Download the canary of an export",
    response_class=Response,
    responses={
        200: {"content": {_JSON: {}}},
        206: {"description": "The requested range"},
        304: {"description": "The client has it"},
        416: {},
    },
)
def read_canary(export_id: str, request: Request, store: StoreDep, who: Reader) -> Response:
    """Prompts, and the answers of base model and export at several strengths: those at which the
    policy lets the key use the variant."""
    work = store.work.read("export", who.tenant, export_id)
    artifact, filename = _artifact(work), f"{export_id}.{NAME}"
    fewer = None if UNSAFE in who.scopes else _limited(store, work, artifact, who.actor)
    if fewer is None:
        store.work.log_download(work, who.actor, file=NAME, sha256=artifact.sha256)
        return artifact_response(
            request, store.objects, artifact, filename=filename, media_type=_JSON
        )
    data = fewer.model_dump_json().encode()
    sha256 = f"sha256:{hashlib.sha256(data).hexdigest()}"
    store.work.log_download(work, who.actor, file=NAME, sha256=sha256)
    headers = {
        "Content-Disposition": f'attachment; filename="{filename}"',
        "Cache-Control": "private, no-cache",
    }
    return Response(data, headers=headers, media_type=_JSON)


@router.post("/{export_id}/canary", summary="Check what a server serves")
@bounded("canaries")
async def check_server(
    export_id: str, body: CanaryBody, request: Request, services: ServicesDep, who: Writer
) -> CanaryCheck:
    """Ask a server with OpenAI's API the prompts of the canary, and say by its answers whether it
    serves the export, the base model, the export at another strength, or something else."""
    post = checked_post(services.outgoing, body.url, body.api_key)
    store = await open_store_of(request)
    canary = await run_in_threadpool(partial(_read, store, who.tenant, export_id))
    return await check(canary, body.model, post, body.base_model)


def _limited(store: Store, work: Work, artifact: Artifact, actor: Actor) -> Canary | None:
    """The canary without the strengths that the policy reserves; None: it reserves none."""
    settings, whole = work.request.settings, _parsed(store, artifact)
    assert isinstance(settings, ExportSettings)
    recorded = sorted({*whole.strengths, *whole.text_strengths} - {0.0, 1.0})
    tenant, variant = work.request.tenant, settings.variant
    covered = store.variants.covered_multiples(tenant, variant, recorded, actor)
    return None if covered == recorded else whole.limited_to(covered)


def _read(store: Store, tenant: str, export_id: str) -> Canary:
    return _parsed(store, _artifact(store.work.read("export", tenant, export_id)))


def _parsed(store: Store, artifact: Artifact) -> Canary:
    return parse_stored(Canary, read_checked(store.objects, artifact), "the stored canary")


def _artifact(work: Work) -> Artifact:
    """Raise `NotFound`, `no_canary`, for an export that an earlier version made."""
    artifact = succeeded_result(work).artifact(NAME)
    if artifact is None:
        raise NotFound(f"{work.id} was made without a canary: export again", code="no_canary")
    return artifact
