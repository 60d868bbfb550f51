"""Aliases: names of one's own for variants, switched in one step."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from app.domain.edits.requests import VariantField
from app.domain.variants.aliases import AliasVersion
from app.request.audit import logged
from app.request.auth import Reader, Writer
from app.request.pagination import Page, PageDep, page_of
from app.request.strict_input.json_body import JsonRoute
from app.services import StoreDep
from models_store.errors import Conflict, InvalidRequest

router = APIRouter(prefix="/v1/aliases", tags=["aliases"], route_class=JsonRoute)


class ShareBody(BaseModel):
    """A part of the requests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    variant: VariantField
    weight: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]


class AliasBody(BaseModel):
    """The variant of an alias, and shares for others."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    variant: VariantField
    shares: Annotated[tuple[ShareBody, ...], Field(max_length=8)] = ()
    """Shares of requests for other variants; the rest goes to `variant`."""
    without_parents: bool = False
    """Leave out parent edits that the variant does not name."""


class RollbackBody(BaseModel):
    """Which version to go back to."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    version: Annotated[int, Field(ge=1)] | None = None
    """Null: the newest version that differs from the present one."""


class ShareView(BaseModel):
    variant: str
    weight: float


class AliasVersionView(BaseModel):
    version: int
    variant: str | None
    """Null where the alias was deleted."""
    shares: list[ShareView]
    at: int
    key_id: str | None

    @classmethod
    def of(cls, version: AliasVersion) -> AliasVersionView:
        return cls(
            version=version.number,
            variant=None if version.deleted else version.variant,
            shares=[] if version.deleted else _shares(version),
            at=version.created_at,
            key_id=version.key_id,
        )


class AliasSummary(BaseModel):
    """An alias and its variant, with ids in place of suffixes, since suffixes can be reused."""

    object: Literal["alias"] = "alias"
    name: str
    variant: str
    shares: list[ShareView]
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
    """Requests that begin after the response get the new variant."""
    if store.bases.find(name) is not None:
        raise Conflict(f"{name} is a base model, which goes before an alias", code="name_taken")
    resolve = partial(
        store.variants.named,
        who.tenant,
        actor=who.actor,
        without_parents=body.without_parents,
    )
    variant = resolve(body.variant, "/variant")
    shares = [
        (resolve(share.variant, f"/shares/{place}/variant"), share.weight)
        for place, share in enumerate(body.shares)
    ]
    logged(
        store,
        who,
        "alias.put",
        name=name,
        variant=variant.name,
        shares=[[share.name, weight] for share, weight in shares],
    )
    store.aliases.put(
        who.tenant,
        name,
        variant,
        shares=shares,
        without_parents=body.without_parents,
        key_id=who.key_id,
    )
    return read_alias(name, store, who)


@router.post("/{name}/rollback", summary="Roll back an alias")
def roll_back_alias(name: str, body: RollbackBody, store: StoreDep, who: Writer) -> AliasView:
    """Adds a version equal to an older one; the history is kept."""
    current = store.aliases.get(who.tenant, name)
    history = store.aliases.history(who.tenant, name)
    if body.version is None:
        found = [one for one in history if not one.deleted and one.targets != current.targets]
    else:
        found = [one for one in history if not one.deleted and one.number == body.version]
    if not found:
        wanted = "no version before" if body.version is None else f"no version {body.version}"
        raise InvalidRequest.at("/version", f"{name} has {wanted} to go back to", "no_such_version")
    shares = tuple(ShareBody(variant=one.variant, weight=one.weight) for one in found[-1].shares)
    logged(store, who, "alias.rolled_back", name=name, version=found[-1].number)
    again = AliasBody(
        variant=found[-1].variant, shares=shares, without_parents=found[-1].without_parents
    )
    return put_alias(name, again, store, who)


@router.delete("/{name}", summary="Delete an alias")
def delete_alias(name: str, store: StoreDep, who: Writer) -> DeletedAlias:
    store.aliases.get(who.tenant, name)
    logged(store, who, "alias.deleted", name=name)
    store.aliases.delete(who.tenant, name, who.key_id)
    return DeletedAlias(name=name)


def _shares(version: AliasVersion) -> list[ShareView]:
    return [ShareView(variant=one.variant, weight=one.weight) for one in version.shares]


def _summary(name: str, version: AliasVersion) -> AliasSummary:
    return AliasSummary(
        name=name,
        variant=version.variant,
        shares=_shares(version),
        base_model=version.base_model,
        version=version.number,
        updated_at=version.created_at,
    )
