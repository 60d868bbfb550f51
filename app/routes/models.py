"""What can be named as a model, as OpenAI's API lists it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from app.auth import Principal, Reader
from app.services import Store, StoreDep
from models_store.variants import variant_name

router = APIRouter(prefix="/v1/models", tags=["completions"])

MAX_EDITS = 1_000
_OWNER = "scalpel"


class ModelView(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class Models(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelView]


@router.get("", summary="List models")
def list_models(store: StoreDep, who: Reader) -> Models:
    """Base models, aliases and the newest 1,000 edits that succeeded."""
    return Models(data=[*_bases(store), *_aliases(store, who), *_edits(store, who)])


@router.get("/{model:path}", summary="Read a model")
def read_model(model: str, store: StoreDep, who: Reader) -> ModelView:
    """Any name that a completion may be asked of."""
    variant = store.variants.resolve(who.tenant, model)
    base = store.bases.get(variant.base_model)
    if model == base.id:
        return ModelView(id=model, created=base.work.request.created_at, owned_by=_OWNER)
    alias = store.aliases.current(who.tenant, model)
    edits = (store.work.read("edit", who.tenant, term.edit_id) for term in variant.terms)
    created = [base.work.request.created_at, *(edit.request.created_at for edit in edits)]
    return ModelView(
        id=model,
        created=max(created) if alias is None else alias.created_at,
        owned_by=who.tenant,
    )


def _bases(store: Store) -> Iterator[ModelView]:
    for base in store.bases.all():
        if base.status == "succeeded":
            created = base.work.request.created_at
            yield ModelView(id=base.id, created=created, owned_by=_OWNER)


def _aliases(store: Store, who: Principal) -> Iterator[ModelView]:
    for name, alias in store.aliases.all(who.tenant).items():
        yield ModelView(id=name, created=alias.created_at, owned_by=who.tenant)


def _edits(store: Store, who: Principal) -> Iterator[ModelView]:
    ready = {base.id: base.facts for base in store.bases.all() if base.facts is not None}
    served = (
        edit
        for edit in store.work.walk("edit", who.tenant)
        if edit.status == "succeeded"
        and (facts := ready.get(edit.request.base_model)) is not None
        and facts.fingerprint == edit.request.base_fingerprint
    )
    for edit in islice(served, MAX_EDITS):
        yield ModelView(id=variant_name(edit), created=edit.request.created_at, owned_by=who.tenant)
