"""Behaviours of a tenant: upload, list, read, delete."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from app.domain.behaviors.library import BehaviorVersion, ResolvedBehavior
from app.http.errors import UnsupportedMediaType
from app.request.auth import Reader, Writer
from app.request.idempotency import CreationDep
from app.request.pagination import Page, PageDep, page_of
from app.request.strict_input.json_body import arriving, content_type, parse_json
from app.routes.behaviors.upload import BehaviorLines, behavior_from_json
from app.services import ServicesDep, Store, StoreDep
from models_store import presets
from models_store.errors import NotFound
from models_store.schemas.behaviors import Behavior, BehaviorRef
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
    scorer: str | None
    """In place of texts."""
    undesired_from: Literal["base_model"] | None
    """In place of undesired texts."""
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
    services: ServicesDep,
    who: Writer,
    creation: CreationDep,
    name: Annotated[
        str, Query(min_length=1, max_length=100, description="Of an upload in JSON lines.")
    ] = "uploaded",
) -> BehaviorSummary:
    """As JSON, or as JSON lines of `{"text", "label"}`."""
    with ExitStack() as held:
        behavior, size = await _uploaded(request, name, arriving(request, who, held))
    store = await run_in_threadpool(lambda: services.store)
    version, replayed = await run_in_threadpool(
        store.submission.behavior, creation.sender(store), behavior, size
    )
    creation.mark(f"/v1/behaviors/{version.behavior.id}", replayed=replayed)
    return _summary(version)


async def _uploaded(
    request: Request, name: str, body: AsyncIterator[bytes]
) -> tuple[Behavior, int]:
    """The behaviour that the body is, and the bytes that it took."""
    kind = content_type(request)
    if kind in JSON_LINES:
        lines = BehaviorLines(name)
        async for data in body:
            await run_in_threadpool(lines.feed, data)
        behavior = await run_in_threadpool(lines.end)
        request.state.sent = lines.sent
        return behavior, lines.size
    if kind == "application/json":
        data = b"".join([piece async for piece in body])
        request.state.sent = await run_in_threadpool(parse_json, data)
        return await run_in_threadpool(behavior_from_json, data, request.state.sent), len(data)
    raise UnsupportedMediaType(
        f"send Content-Type: application/json or {JSON_LINES[0]}, not {kind or 'without one'}",
        headers={"Accept-Post": f"application/json, {', '.join(JSON_LINES)}"},
    )


@router.get("", summary="List your behaviours")
def list_behaviors(store: StoreDep, who: Reader, page: PageDep) -> Page[BehaviorSummary]:
    ids = page.ordered(store.behaviors.ids(who.tenant))
    return page_of(*page.cut(_summaries(store, who.tenant, ids)))


@router.get("/{behavior_id}", summary="Read a behaviour")
def read_behavior(behavior_id: str, store: StoreDep, who: Reader) -> BehaviorView:
    """Your own by its id, or a preset by its name; with all texts."""
    if behavior_id in presets.preset_names():
        resolved, created_at = store.behaviors.find(who.tenant, behavior_id), None
    else:
        resolved = store.behaviors.read(who.tenant, behavior_id)
        created_at = store.behaviors.head(who.tenant, behavior_id).created_at
    return _view(resolved, created_at)


@router.delete("/{behavior_id}", summary="Delete a behaviour")
def delete_behavior(behavior_id: str, store: StoreDep, who: Writer) -> DeletedBehavior:
    """Edits made from it keep a copy of the texts."""
    store.behaviors.delete(who.tenant, behavior_id, who.actor)
    return DeletedBehavior(id=behavior_id)


def _summaries(store: Store, tenant: str, ids: list[str]) -> Iterator[BehaviorSummary]:
    def summary(id: str) -> BehaviorSummary | None:
        try:
            return _summary(store.behaviors.head(tenant, id))
        except NotFound:
            return None  # deleted

    return (version for _, version in store.objects.each_readable(ids, summary))


def _summary(version: BehaviorVersion) -> BehaviorSummary:
    return BehaviorSummary(**_fields(version.behavior, version), created_at=version.created_at)


def _view(resolved: ResolvedBehavior, created_at: int | None) -> BehaviorView:
    behavior = resolved.behavior
    return BehaviorView(
        **_fields(resolved.ref, behavior),
        created_at=created_at,
        undesired=behavior.undesired,
        desired=behavior.desired,
        prompts=behavior.prompts,
    )


def _fields(ref: BehaviorRef, of: Behavior | BehaviorVersion) -> dict[str, Any]:
    return {
        **ref.model_dump(include={"id", "name", "sha256", "counts"}),
        "description": of.description,
        "chat": of.chat,
        "scorers": of.scorers,
        "scorer": of.scorer,
        "undesired_from": of.undesired_from,
        "question": of.question,
        "max_new_tokens": of.max_new_tokens,
    }
