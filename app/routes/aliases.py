"""Aliases: names of one's own for variants, switched in one step."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from itertools import islice
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field

from app.domain.accounts.quotas import RECORDS_BYTES
from app.domain.bodies import RequestBody, View
from app.domain.edits.requests import VariantField
from app.domain.variants.aliases import AliasVersion
from app.request.auth import Principal, Reader, Writer
from app.request.pagination import NumberPageDep, Page, PageDep, page_of
from app.request.strict_input.json_body import JsonRoute
from app.services import Store, StoreDep
from models_store.errors import Conflict, NotFound

router = APIRouter(prefix="/v1/aliases", tags=["aliases"], route_class=JsonRoute)


_SHOWN = 20
"""Versions in an alias itself."""


class ShareBody(RequestBody):
    """A part of the requests."""

    variant: VariantField
    """A variant of the same base model."""
    weight: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
    """Its share of the requests, between 0 and 1."""


class AliasBody(RequestBody):
    """The variant of an alias, and shares for others."""

    variant: VariantField
    """The variant that the alias stands for."""
    shares: Annotated[tuple[ShareBody, ...], Field(max_length=8)] = ()
    """Shares of requests for other variants; the rest goes to `variant`."""
    without_parents: bool = False
    """Leave out parent edits that the variant does not name."""


class RollbackBody(RequestBody):
    """Which version to go back to."""

    version: Annotated[int, Field(ge=1)] | None = None
    """Null: the newest version that differs from the present one."""


class ShareView(View):
    variant: str
    """The variant, with ids in place of suffixes."""
    weight: float
    """Its share of the requests, between 0 and 1."""


class AliasVersionView(View):
    version: int
    """Number of the version, from 1."""
    variant: str | None
    """Null where the alias was deleted."""
    shares: list[ShareView]
    """Variants that got a share of the requests."""
    at: int
    """Unix seconds."""
    key_id: str | None
    """The API key that did it; null without one."""

    @classmethod
    def of(cls, version: AliasVersion) -> AliasVersionView:
        return cls(
            version=version.number,
            variant=None if version.deleted else version.variant,
            shares=[] if version.deleted else _shares(version),
            at=version.created_at,
            key_id=version.key_id,
        )


class AliasSummary(View):
    """An alias and its variant, with ids in place of suffixes, since suffixes can be reused."""

    object: Literal["alias"] = "alias"
    """What kind of thing this is: always the same word."""
    name: str
    """Name of the alias: the `model` of a completion."""
    variant: str
    """What it stands for."""
    shares: list[ShareView]
    """Variants that get a share of the requests; the rest goes to `variant`."""
    base_model: str
    """Id of the base model."""
    version: int
    """Number of the version, from 1."""
    updated_at: int
    """Unix seconds of its newest version."""


class AliasView(AliasSummary):
    history: list[AliasVersionView]
    """The newest ones, newest first; `GET /v1/aliases/{name}/history` has all."""


class DeletedAlias(View):
    name: str
    """Name of the alias that was deleted."""
    object: Literal["alias"] = "alias"
    """What kind of thing this is: always the same word."""
    deleted: Literal[True] = True
    """Always true."""


@router.get("", summary="List aliases")
def list_aliases(store: StoreDep, who: Reader, page: PageDep) -> Page[AliasSummary]:
    """Ordered by name."""
    aliases = store.aliases.all(who.tenant)
    shown, has_more = page.cut(page.ordered(aliases))
    return page_of([_summary(name, aliases[name]) for name in shown], has_more, name="name")


@router.get("/{name}", summary="Read an alias and its history")
def read_alias(name: str, store: StoreDep, who: Reader) -> AliasView:
    """With its newest versions."""
    current = store.aliases.get(who.tenant, name)
    newest = islice(store.aliases.history(who.tenant, name), _SHOWN)
    history = [AliasVersionView.of(version) for version in newest]
    return AliasView(**_summary(name, current).model_dump(), history=history)


@router.get("/{name}/history", summary="List the versions of an alias")
def list_alias_versions(
    name: str, store: StoreDep, who: Reader, page: NumberPageDep
) -> Page[AliasVersionView]:
    """Newest first by default; those of a deleted alias too."""
    after = None if page.after is None else int(page.after)
    versions = store.aliases.history(who.tenant, name, after, descending=page.descending)
    shown, has_more = page.cut(AliasVersionView.of(version) for version in versions)
    if not shown and after is None:
        raise NotFound(f"no such alias: {name[:100]}")
    return page_of(shown, has_more, name="version")


@router.put("/{name}", summary="Make or switch an alias")
def put_alias(name: str, body: AliasBody, store: StoreDep, who: Writer) -> AliasView:
    """Requests that begin after the response get the new variant."""
    return _put(name, body, store, who)


@router.post("/{name}/rollback", summary="Roll back an alias")
def roll_back_alias(name: str, body: RollbackBody, store: StoreDep, who: Writer) -> AliasView:
    """Adds a version equal to an older one; the history is kept."""
    earlier = store.aliases.earlier(who.tenant, name, body.version)
    again = AliasBody(
        variant=earlier.variant,
        shares=tuple(
            ShareBody(variant=share.variant, weight=share.weight) for share in earlier.shares
        ),
        without_parents=earlier.without_parents,
    )
    return _put(name, again, store, who, rolls_back_to=earlier.number)


@router.delete("/{name}", summary="Delete an alias")
def delete_alias(name: str, store: StoreDep, who: Writer) -> DeletedAlias:
    """Its history stays; the name can be used again."""
    store.aliases.delete(who.tenant, name, who.actor)
    return DeletedAlias(name=name)


def _put(
    name: str, body: AliasBody, store: Store, who: Principal, *, rolls_back_to: int | None = None
) -> AliasView:
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
    room = store.quotas.room_for_bytes(who.tenant, RECORDS_BYTES)
    with nullcontext() if rolls_back_to else room:  # who has none left may still go back
        store.aliases.put(
            who.tenant,
            name,
            variant,
            shares=shares,
            without_parents=body.without_parents,
            actor=who.actor,
            rolls_back_to=rolls_back_to,
        )
    return read_alias(name, store, who)


def _shares(version: AliasVersion) -> list[ShareView]:
    return [ShareView(variant=share.variant, weight=share.weight) for share in version.shares]


def _summary(name: str, version: AliasVersion) -> AliasSummary:
    return AliasSummary(
        name=name,
        variant=version.variant,
        shares=_shares(version),
        base_model=version.base_model,
        version=version.number,
        updated_at=version.created_at,
    )
