"""Behaviours of a tenant: upload, list, read, delete."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool

from app.domain.behaviors.library import BehaviorVersion, ResolvedBehavior
from app.domain.bodies import View
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


class BehaviorSummary(View):
    """A behaviour without its texts."""

    id: str | None
    """Null for a preset, which is named by its name."""
    object: Literal["behavior"] = "behavior"
    """What kind of thing this is: always the same word."""
    preset: bool
    """Whether it comes with Scalpel; else you have uploaded it."""
    name: str
    """Its name; a preset is called by it."""
    description: str
    """For people."""
    chat: bool
    """Whether prompts go through the chat template."""
    scorers: tuple[str, ...]
    """Names of the scorers of generated text, the first one leads."""
    scorer: str | None
    """In place of texts."""
    undesired_from: Literal["base_model"] | None
    """In place of undesired texts."""
    question: str | None
    """For scorers that ask a model: yes means undesired."""
    max_new_tokens: int
    """Length of the generations that are scored, in tokens."""
    sha256: str
    """Checksum of all that an edit depends on."""
    counts: dict[str, int]
    """Numbers of texts on each side, and of prompts."""
    created_at: int | None
    """Unix seconds; null for a preset."""

    @property
    def position(self) -> str:
        """In lists."""
        return self.id or self.name


class BehaviorView(BehaviorSummary):
    undesired: tuple[Item, ...]
    """Texts that show it."""
    desired: tuple[Item, ...]
    """Texts that do not."""
    prompts: tuple[Prompt, ...]
    """Prompts that elicit it."""


class DeletedBehavior(View):
    id: str
    """The behaviour that was deleted."""
    object: Literal["behavior"] = "behavior"
    """What kind of thing this is: always the same word."""
    deleted: Literal[True] = True
    """Always true."""


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
                        "`undesired`, `desired` or `prompt`; or a preference, as TRL has it "
                        "(`prompt`, `chosen`, `rejected`) or OpenAI (`input`, `preferred_output`, "
                        "`non_preferred_output`). At most 1 MiB a line.",
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
    """As JSON, or as JSON lines: of `{"text", "label"}`, or of preferences, whose chosen responses
    are desired and whose rejected ones are undesired."""
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


@router.get("", summary="List behaviours")
def list_behaviors(
    store: StoreDep,
    who: Reader,
    page: PageDep,
    preset: Annotated[
        bool | None, Query(description="true: presets alone; false: your own alone.")
    ] = None,
) -> Page[BehaviorSummary]:
    """By id, and presets by name: in the order `desc` presets are first, then your own, newest
    first."""
    presets_too = () if preset is False else presets.preset_names()
    own = () if preset else store.behaviors.ids(who.tenant)
    ids = page.ordered([*presets_too, *own])
    return page_of(*page.cut(_summaries(store, who.tenant, ids)), "position")


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
        if id in presets.preset_names():
            return _preset(store.behaviors.find(tenant, id))
        try:
            return _summary(store.behaviors.head(tenant, id))
        except NotFound:
            return None  # deleted

    return (version for _, version in store.objects.each_readable(ids, summary))


def _summary(version: BehaviorVersion) -> BehaviorSummary:
    return BehaviorSummary(**_fields(version.behavior, version), created_at=version.created_at)


def _preset(resolved: ResolvedBehavior) -> BehaviorSummary:
    return BehaviorSummary(**_fields(resolved.ref, resolved.behavior), created_at=None)


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
        "preset": ref.id is None,
        "description": of.description,
        "chat": of.chat,
        "scorers": of.scorers,
        "scorer": of.scorer,
        "undesired_from": of.undesired_from,
        "question": of.question,
        "max_new_tokens": of.max_new_tokens,
    }
