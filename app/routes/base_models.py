"""The catalogue of base models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool

from app.domain.bodies import View
from app.request.auth import Operator, Principal, Reader
from app.request.idempotency import CreationDep
from app.request.pagination import Page, PageDep, page_of
from app.request.strict_input.json_body import JsonRoute
from app.request.waiting import wait_until_ended
from app.routes.edits.edits import Wait
from app.routes.edits.views import ErrorView
from app.services import ServicesDep, Store, StoreDep
from models_store.errors import Conflict
from models_store.schemas.catalogue import BaseModelSource, BaseModelSpec, FolderSource
from models_store.schemas.records import EditSettings, Status, WorkRequest
from models_store.work.base_models import BaseFacts, RegisteredBase
from models_store.work.store import SHARED_TENANT

router = APIRouter(prefix="/v1/base_models", tags=["base models"], route_class=JsonRoute)


class BaseModelView(View):
    """A base model; fields of its weights are null until the registration has succeeded."""

    id: str
    """Its name in requests."""
    object: Literal["base_model"] = "base_model"
    """What kind of thing this is: always the same word."""
    status: Status
    """Of its registration."""
    source: BaseModelSource
    """Where its weights are."""
    pool: str
    """The editors that may edit it."""
    description: str
    """For people."""
    licence: str
    """Of the weights."""
    quantization: str | None
    """An earlier quantization of the weights; null: none is known."""
    chat: bool | None
    """Whether it takes chat messages."""
    fingerprint: str | None
    """Checksum of the weights, to which edits are bound."""
    architecture: str | None
    """The `model_type` of its configuration."""
    layers: int | None
    """Number of layers."""
    hidden_size: int | None
    """Width of the residual stream."""
    parameters: int | None
    """Number of parameters."""
    dtype: str | None
    """Type of the stored weights."""
    context_length: int | None
    """Most tokens of prompt and response together."""
    bytes: int | None
    """Size of the weights."""
    created_at: int
    """Unix seconds."""
    finished_at: int | None
    """Unix seconds; null until it has ended."""
    error: ErrorView | None
    """Why the registration failed; null if it did not."""


_NOTHING_FOUND = dict.fromkeys(set(BaseFacts.model_fields) - {"chat_template"})


class DeletedBaseModel(View):
    id: str
    """The base model that was deleted."""
    object: Literal["base_model"] = "base_model"
    """What kind of thing this is: always the same word."""
    deleted: Literal[True] = True
    """Always true."""


@router.get("", summary="List the base models")
def list_base_models(store: StoreDep, who: Reader, page: PageDep) -> Page[BaseModelView]:
    """Ordered by id."""
    bases = {base.id: base for base in store.bases.all()}
    shown = (_view(bases[id], who) for id in page.ordered(bases))
    return page_of(*page.cut(shown))


@router.get("/{base_model_id}", summary="Read a base model")
async def read_base_model(
    base_model_id: str, services: ServicesDep, who: Reader, wait: Wait = 0
) -> BaseModelView:
    """With what its registration has found out of the weights."""
    store = await run_in_threadpool(lambda: services.store)
    base = await run_in_threadpool(store.bases.get, base_model_id)
    work = await wait_until_ended(services, "base_model", SHARED_TENANT, base.work.id, wait)
    return _view(RegisteredBase(work), who)


@router.post("", status_code=201, summary="Register a base model")
def create_base_model(
    body: BaseModelSpec,
    services: ServicesDep,
    store: StoreDep,
    who: Operator,
    creation: CreationDep,
) -> BaseModelView:
    """An editor fetches, converts, checks and pins its weights; then it can be edited."""
    submitted = store.submission.base_model(creation.sender(store, tenant=SHARED_TENANT), body)
    services.live.wake_keeper()
    creation.mark(f"/v1/base_models/{body.id}", replayed=submitted.replayed)
    return _view(RegisteredBase(submitted.work), who)


@router.delete("/{base_model_id}", summary="Remove a base model")
def delete_base_model(
    base_model_id: str, services: ServicesDep, store: StoreDep, who: Operator
) -> DeletedBaseModel:
    """Its edits remain, but cannot be served until it is registered again."""
    base = store.bases.get(base_model_id)
    user = next(_users(store, base.id), None)
    if user is not None:
        raise Conflict(f"{user} needs the base model {base.id}", code="in_use")
    store.bases.remove(base.id, tenant=who.tenant, actor=who.actor)
    services.live.wake_keeper()
    return DeletedBaseModel(id=base.id)


def _users(store: Store, base_model: str) -> Iterator[str]:
    """Aliases that stand on a base model, and edits and exports of it that are not done."""
    for name in store.aliases.users_of_base(base_model):
        yield f"the alias {name}"
    for place in store.work.open_work():
        if place.kind != "base_model":
            work = store.work.find(place)
            if work is not None and work.result is None and base_model in _needed(work.request):
                yield f"the {place.kind} {place.id}"


def _needed(request: WorkRequest) -> list[str]:
    """The base models of an edit or an export: its own, and the other one of a difference."""
    settings = request.settings
    source = settings.source if isinstance(settings, EditSettings) else None
    other = source.model if source is not None else None
    return [request.base_model, *([other.id] if other is not None else [])]


def _view(base: RegisteredBase, who: Principal) -> BaseModelView:
    spec, facts, work = base.spec, base.facts, base.work
    source = spec.source
    if isinstance(source, FolderSource) and not who.is_operator:
        # Where folders of this machine are is nobody else's business.
        source = source.model_copy(update={"path": Path(source.path.name)})
    measured = facts.model_dump(exclude={"chat_template"}) if facts is not None else _NOTHING_FOUND
    return BaseModelView(
        **spec.model_dump(exclude={"chat", "source"}),
        **measured,
        source=source,
        status=base.status,
        chat=base.takes_chat if facts is not None else spec.chat,
        created_at=work.request.created_at,
        finished_at=int(work.result.finished_at) if work.result is not None else None,
        error=ErrorView.of(work),
    )
