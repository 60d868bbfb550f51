"""What can be named as a model, as OpenAI's API lists it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Literal

from fastapi import APIRouter

from app.domain.bodies import View
from app.domain.variants.aliases import AliasVersion
from app.domain.variants.names import variant_name, variant_of
from app.request.auth import Principal, Reader
from app.services import Store, StoreDep
from models_store.errors import Conflict, NotFound
from models_store.schemas.records import Variant
from models_store.work.base_models import RegisteredBase
from models_store.work.store import Place, Work

router = APIRouter(prefix="/v1/models", tags=["completions"])

MAX_LOOKED_AT = 1_000
_OWNER = "scalpel"


class EditOf(View):
    """An edit of a model, with its strength."""

    id: str
    """Id of the edit."""
    strength: float
    """Its factor."""
    delta_sha256: str
    """SHA-256 of its file."""
    behavior: str | None
    """Null where it has no name."""


class ModelProvenance(View):
    """Base model and edits of a model."""

    type: Literal["base_model", "variant", "alias"]
    """What the name stands for."""
    base_model: str
    """Id of the base model."""
    base_fingerprint: str
    """Checksum of the base model's weights."""
    variant: str
    """The name with ids in place of suffixes and aliases."""
    edits: list[EditOf]
    """Empty for a base model."""


class ModelView(View):
    id: str
    """The `model` of a completion."""
    object: Literal["model"] = "model"
    """What kind of thing this is: always the same word."""
    created: int
    """Unix seconds."""
    owned_by: str
    """The tenant; `scalpel` for base models."""
    provenance: ModelProvenance | None
    """Null where an alias stands for what is not there any more."""


class Models(View):
    object: Literal["list"] = "list"
    """What kind of thing this is: always the same word."""
    data: list[ModelView]
    """Base models, aliases, edits."""


@router.get("", summary="List models")
def list_models(store: StoreDep, who: Reader) -> Models:
    """Base models, aliases, and of your newest 1,000 edits those that succeeded."""
    bases = (_base(base) for base in store.bases.all() if base.status == "succeeded")
    return Models(data=[*bases, *_aliases(store, who), *_edits(store, who)])


@router.get("/{model:path}", summary="Read a model")
def read_model(model: str, store: StoreDep, who: Reader) -> ModelView:
    """Any name that a completion takes."""
    variant = store.variants.resolve(who.tenant, model, actor=None)
    base = store.bases.get(variant.base_model)
    if model == base.id:
        return _base(base)
    alias = store.aliases.current(who.tenant, model)
    if alias is not None:
        return _alias(store, who, model, alias)
    edits = [store.work.read("edit", who.tenant, term.edit_id) for term in variant.terms]
    created = [base.work.request.created_at, *(edit.request.created_at for edit in edits)]
    return ModelView(
        id=model,
        created=max(created),
        owned_by=who.tenant,
        provenance=_provenance(store, who, "variant", variant, edits),
    )


def _provenance(
    store: Store,
    who: Principal,
    type: Literal["base_model", "variant", "alias"],
    variant: Variant,
    edits_read: Iterable[Work] = (),
) -> ModelProvenance:
    """`known` are edits that were read already."""
    works = {edit.id: edit for edit in edits_read}
    return ModelProvenance(
        type=type,
        base_model=variant.base_model,
        base_fingerprint=variant.base_fingerprint,
        variant=variant.name,
        edits=[
            EditOf(
                id=term.edit_id,
                strength=term.strength,
                delta_sha256=term.sha256,
                behavior=_behavior(store, who, term.edit_id, works),
            )
            for term in variant.terms
        ],
    )


def _behavior(
    store: Store, who: Principal, edit_id: str, edits_read: Mapping[str, Work]
) -> str | None:
    try:
        edit = edits_read.get(edit_id) or store.work.read("edit", who.tenant, edit_id)
    except NotFound:
        return None  # deleted, but another was fitted on top of it
    behavior = edit.request.behavior
    return behavior.name if behavior is not None else None


def _base(base: RegisteredBase) -> ModelView:
    assert base.facts is not None
    return ModelView(
        id=base.id,
        created=base.work.request.created_at,
        owned_by=_OWNER,
        provenance=ModelProvenance(
            type="base_model",
            base_model=base.id,
            base_fingerprint=base.facts.fingerprint,
            variant=base.id,
            edits=[],
        ),
    )


def _aliases(store: Store, who: Principal) -> Iterator[ModelView]:
    aliases = store.aliases.all(who.tenant)
    shown = store.objects.each_readable(
        aliases, lambda name: _alias(store, who, name, aliases[name])
    )
    return (alias for _, alias in shown)


def _alias(store: Store, who: Principal, name: str, alias: AliasVersion) -> ModelView:
    """Of an alias that is split, the variant that most of its requests go to by default."""
    try:
        variant = store.variants.resolve(who.tenant, name, actor=None)
    except (Conflict, NotFound):
        provenance = None  # the base model was registered anew with other weights
    else:
        provenance = _provenance(store, who, "alias", variant)
    return ModelView(id=name, created=alias.created_at, owned_by=who.tenant, provenance=provenance)


def _edits(store: Store, who: Principal) -> Iterator[ModelView]:
    ready = {base.id: base.facts for base in store.bases.all() if base.facts is not None}
    served = (
        edit
        for edit in _newest(store, who.tenant)
        if edit.status == "succeeded"
        and (facts := ready.get(edit.request.base_model)) is not None
        and facts.fingerprint == edit.request.base_fingerprint
    )
    for edit in served:
        yield ModelView(
            id=variant_name(edit),
            created=edit.request.created_at,
            owned_by=who.tenant,
            provenance=_provenance(store, who, "variant", variant_of(edit), [edit]),
        )


def _newest(store: Store, tenant: str) -> Iterator[Work]:
    """Not all: an endless queue is not looked through for what is served."""
    ids = islice(store.work.list_ids("edit", tenant), MAX_LOOKED_AT)
    edits = store.objects.each_readable(ids, lambda id: store.work.find(Place("edit", tenant, id)))
    return (edit for _, edit in edits)
