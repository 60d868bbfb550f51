"""Behaviours of one's own: upload, list, read, forget."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from app.domain.behaviors.library import BehaviorVersion, Found
from app.domain.edits.submission import check_scorers, claim_id
from app.http.errors import UnsupportedMediaType
from app.request.audit import logged
from app.request.auth import Principal, Reader, Writer
from app.request.idempotency import KeyHeader, mark_created, sender
from app.request.pagination import Page, PageDep, page_of
from app.request.strict_input.json_body import content_type, parse_json
from app.routes.behaviors.upload import BehaviorLines, behavior_from_json
from app.services import ServicesDep, Store, StoreDep
from models_store import presets
from models_store.errors import NotFound
from models_store.objects.store import each_readable
from models_store.schemas.behaviors import Behavior, checked, reference
from models_store.schemas.items import Item, Prompt

router = APIRouter(prefix="/v1/behaviors", tags=["behaviors"])

JSON_LINES = ("application/jsonl", "application/x-ndjson", "application/x-jsonlines")


class BehaviorSummary(BaseModel):
    """A behaviour without its texts."""

    id: str | None
    """Null for a preset, which is named by its name."""
    object: Literal["behavior"] = "behavior"
    name: str
    description: str
    chat: bool
    scorers: tuple[str, ...]
    question: str | None
    """For scorers that ask a model: yes means undesired."""
    max_new_tokens: int
    sha256: str
    counts: dict[str, int]
    created_at: int | None


class BehaviorView(BehaviorSummary):
    undesired: tuple[Item, ...]
    desired: tuple[Item, ...]
    prompts: tuple[Prompt, ...]


class DeletedBehavior(BaseModel):
    id: str
    object: Literal["behavior"] = "behavior"
    deleted: Literal[True] = True


@router.post(
    "",
    status_code=201,
    summary="Upload a behaviour",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/Behavior"}},
                JSON_LINES[0]: {
                    "schema": {
                        "type": "string",
                        "description": "One text a line: an item, and `label`, which is "
                        "`undesired`, `desired` or `prompt`; at most 1 MiB a line.",
                    }
                },
            },
        }
    },
)
async def create_behavior(
    request: Request,
    response: Response,
    services: ServicesDep,
    who: Writer,
    name: Annotated[
        str, Query(min_length=1, max_length=100, description="Of an upload in JSON lines.")
    ] = "uploaded",
    idempotency_key: KeyHeader = None,
) -> BehaviorSummary:
    """As JSON, or as JSON lines of `{"text", "label"}`."""
    behavior, size = await _uploaded(request, name)
    return await run_in_threadpool(
        _create, request, response, services.store, who, idempotency_key, behavior, size
    )


async def _uploaded(request: Request, name: str) -> tuple[Behavior, int]:
    """The behaviour that the body is, and the bytes that it took."""
    kind = content_type(request)
    if kind in JSON_LINES:
        lines = BehaviorLines(name)
        async for data in request.stream():
            await run_in_threadpool(lines.feed, data)
        behavior = await run_in_threadpool(lines.end)
        request.state.sent = lines.sent
        return behavior, lines.size
    if kind == "application/json":
        data = await request.body()
        request.state.sent = await run_in_threadpool(parse_json, data)
        return await run_in_threadpool(behavior_from_json, data, request.state.sent), len(data)
    raise UnsupportedMediaType(
        f"send Content-Type: application/json or {JSON_LINES[0]}, not {kind or 'without one'}",
        headers={"Accept-Post": f"application/json, {', '.join(JSON_LINES)}"},
    )


def _create(
    request: Request,
    response: Response,
    store: Store,
    who: Principal,
    key: str | None,
    behavior: Behavior,
    size: int,
) -> BehaviorSummary:
    who_sends = sender(request, store, who, key)
    earlier = who_sends.key.find() if who_sends.key is not None else None
    if earlier is None:
        check_scorers(behavior.scorers, "/scorers", store.submission.scorers)
        behavior = checked(behavior, pointer="")
        with store.quotas.room_for_bytes(who.tenant, size):
            id = claim_id(who_sends.key, "behavior")
            version = _add(store, who, id, behavior)
    else:
        id = earlier.id
        behavior = checked(behavior, pointer="")
        version = _add(store, who, id, behavior)
    if version.deleted:
        raise NotFound(f"no such behavior: {id}")
    mark_created(response, f"/v1/behaviors/{id}", replayed=earlier is not None)
    return _summary(version)


def _add(store: Store, who: Principal, id: str, behavior: Behavior) -> BehaviorVersion:
    logged(store, who, "behavior.created", id=id, sha256=reference(behavior).sha256)
    return store.behaviors.add(who.tenant, id, behavior)


@router.get("", summary="List your behaviours")
def list_behaviors(store: StoreDep, who: Reader, page: PageDep) -> Page[BehaviorSummary]:
    ids = page.ordered(store.behaviors.ids(who.tenant))
    return page_of(*page.cut(_summaries(store, who.tenant, ids)))


@router.get("/{behavior_id}", summary="Read a behaviour")
def read_behavior(behavior_id: str, store: StoreDep, who: Reader) -> BehaviorView:
    """Your own by its id, or a preset by its name; with all texts."""
    if behavior_id in presets.preset_names():
        found, created_at = store.behaviors.find(who.tenant, behavior_id), None
    else:
        found = store.behaviors.read(who.tenant, behavior_id)
        created_at = store.behaviors.head(who.tenant, behavior_id).created_at
    return _view(found, created_at)


@router.delete("/{behavior_id}", summary="Delete a behaviour")
def delete_behavior(behavior_id: str, store: StoreDep, who: Writer) -> DeletedBehavior:
    """Edits made from it keep a copy of the texts."""
    store.behaviors.head(who.tenant, behavior_id)
    logged(store, who, "behavior.deleted", id=behavior_id)
    store.behaviors.delete(who.tenant, behavior_id)
    return DeletedBehavior(id=behavior_id)


def _summaries(store: Store, tenant: str, ids: list[str]) -> Iterator[BehaviorSummary]:
    def summary(id: str) -> BehaviorSummary | None:
        try:
            return _summary(store.behaviors.head(tenant, id))
        except NotFound:
            return None  # deleted

    return (found for _, found in each_readable(ids, summary))


def _summary(version: BehaviorVersion) -> BehaviorSummary:
    return BehaviorSummary(
        id=version.behavior.id,
        name=version.behavior.name,
        description=version.description,
        chat=version.chat,
        scorers=version.scorers,
        question=version.question,
        max_new_tokens=version.max_new_tokens,
        sha256=version.behavior.sha256,
        counts=version.behavior.counts,
        created_at=version.created_at,
    )


def _view(found: Found, created_at: int | None) -> BehaviorView:
    behavior = found.behavior
    return BehaviorView(
        id=found.ref.id,
        name=behavior.name,
        description=behavior.description,
        chat=behavior.chat,
        scorers=behavior.scorers,
        question=behavior.question,
        max_new_tokens=behavior.max_new_tokens,
        sha256=found.ref.sha256,
        counts=found.ref.counts,
        created_at=created_at,
        undesired=behavior.undesired,
        desired=behavior.desired,
        prompts=behavior.prompts,
    )
