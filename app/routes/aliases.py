"""Aliases: names of one's own for variants, switched in one step."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from app.auth import Reader, Writer
from app.json_body import JsonRoute
from app.lists import Page, PageDep, page_of
from app.services import StoreDep
from models_store.aliases import AliasVersion
from models_store.errors import Conflict, InvalidRequest
from models_store.requests import VariantField
from models_store.variants import InvalidVariant, UnknownVariant

router = APIRouter(prefix="/v1/aliases", tags=["aliases"], route_class=JsonRoute)


class AliasBody(BaseModel):
    """What an alias is to stand for."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    variant: VariantField
    without_parents: bool = False
    """Leave out edits that a named one was fitted on top of."""


class AliasVersionView(BaseModel):
    version: int
    variant: str | None
    """Null where the alias was deleted."""
    at: int
    key_id: str | None

    @classmethod
    def of(cls, version: AliasVersion) -> AliasVersionView:
        return cls(
            version=version.number,
            variant=None if version.deleted else version.variant,
            at=version.created_at,
            key_id=version.key_id,
        )


class AliasSummary(BaseModel):
    """An alias and what it stands for; ids are in place of suffixes, which may change hands."""

    object: Literal["alias"] = "alias"
    name: str
    variant: str
    base_model: str
    version: int
    updated_at: int


class AliasView(AliasSummary):
    history: list[AliasVersionView]
    """Newest first."""


class DeletedAlias(BaseModel):
    name: str
    object: Literal["alias"] = "alias"
    deleted: Literal[True] = True


@router.get("", summary="List aliases")
def list_aliases(store: StoreDep, who: Reader, page: PageDep) -> Page[AliasSummary]:
    """Ordered by name."""
    aliases = store.aliases.all(who.tenant)
    shown, has_more = page.cut(page.ordered(aliases))
    return page_of([_summary(name, aliases[name]) for name in shown], has_more, name="name")


@router.get("/{name}", summary="Read an alias and its history")
def read_alias(name: str, store: StoreDep, who: Reader) -> AliasView:
    current = store.aliases.get(who.tenant, name)
    history = [AliasVersionView.of(one) for one in store.aliases.history(who.tenant, name)]
    return AliasView(**_summary(name, current).model_dump(), history=history[::-1])


@router.put("/{name}", summary="Make or switch an alias")
def put_alias(name: str, body: AliasBody, store: StoreDep, who: Writer) -> AliasView:
    """Requests that begin after the answer get the new variant."""
    if store.bases.find(name) is not None:
        raise Conflict(f"{name} is a base model, which goes before an alias", code="name_taken")
    try:
        variant = store.variants.resolve(
            who.tenant, body.variant, without_parents=body.without_parents
        )
    except UnknownVariant as error:
        raise InvalidRequest.at("/variant", error.message, code="unknown_variant") from error
    except InvalidVariant as error:
        raise InvalidVariant(f"/variant: {error.message}") from error
    store.aliases.put(
        who.tenant,
        name,
        variant,
        edits=tuple(term.edit_id for term in variant.terms),
        without_parents=body.without_parents,
        key_id=who.key_id,
    )
    return read_alias(name, store, who)


@router.delete("/{name}", summary="Remove an alias")
def delete_alias(name: str, store: StoreDep, who: Writer) -> DeletedAlias:
    store.aliases.delete(who.tenant, name, who.key_id)
    return DeletedAlias(name=name)


def _summary(name: str, version: AliasVersion) -> AliasSummary:
    return AliasSummary(
        name=name,
        variant=version.variant,
        base_model=version.base_model,
        version=version.number,
        updated_at=version.created_at,
    )
