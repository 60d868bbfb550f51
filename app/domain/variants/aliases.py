"""Aliases: names of a tenant's own that stand for a variant and are switched in one step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

from pydantic import BaseModel, ConfigDict, JsonValue

from models_store.audit.log import NOBODY, AuditLog
from models_store.errors import InvalidRequest, NotFound
from models_store.ids import BASE_ID_PATTERN
from models_store.objects.histories import Histories, Version
from models_store.objects.store import ObjectStore
from models_store.schemas.records import Actor, Variant


class AliasTarget(BaseModel):
    """A variant that an alias stands for, and what it needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    variant: str
    """The canonical name: with ids in place of suffixes, which may change hands."""
    base_model: str
    edits: tuple[str, ...] = ()

    @classmethod
    def of(cls, variant: Variant) -> Self:
        edits = tuple(term.edit_id for term in variant.terms)
        return cls(variant=variant.name, base_model=variant.base_model, edits=edits)


class AliasShare(AliasTarget):
    """A part of the requests that goes to another variant."""

    weight: float
    """In (0, 1)."""


class AliasVersion(Version):
    """What an alias stands for from here on."""

    variant: str
    """Of the requests that go to none of the shares; the canonical name."""
    base_model: str
    edits: tuple[str, ...] = ()
    shares: tuple[AliasShare, ...] = ()
    without_parents: bool = False
    key_id: str | None = None
    """Who switched it."""

    @property
    def targets(self) -> tuple[AliasTarget, ...]:
        main = AliasTarget(variant=self.variant, base_model=self.base_model, edits=self.edits)
        return (main, *self.shares)

    def at(self, place: float) -> str:
        """The variant that a request at `place` in [0, 1) goes to.

        The shares come first, so a caller whose place stays the same stays with a share while it
        grows.
        """
        for share in self.shares:
            if place < share.weight:
                return share.variant
            place -= share.weight
        return self.variant


class Aliases:
    """The aliases of every tenant."""

    def __init__(self, objects: ObjectStore, audit: AuditLog) -> None:
        self._audit = audit
        self._versions: Histories[AliasVersion] = Histories(objects, "aliases", AliasVersion)

    def current(self, tenant: str, name: str) -> AliasVersion | None:
        return self._versions.current(tenant, name) if BASE_ID_PATTERN.fullmatch(name) else None

    def get(self, tenant: str, name: str) -> AliasVersion:
        """What the alias stands for.

        Raises:
            NotFound: there is no such alias.
        """
        version = self.current(tenant, name)
        if version is None:
            raise NotFound(f"no such alias: {name[:100]}")
        return version

    def history(
        self, tenant: str, name: str, after: int | None = None, *, descending: bool = True
    ) -> Iterator[AliasVersion]:
        """Its versions, after that number; a deleted alias keeps its history."""
        if not BASE_ID_PATTERN.fullmatch(name):
            return iter(())
        numbers = sorted(self._versions.numbers(tenant, name), reverse=descending)
        if after is not None:
            numbers = [n for n in numbers if (n < after if descending else n > after)]
        return self._versions.versions(tenant, name, numbers)

    def all(self, tenant: str) -> dict[str, AliasVersion]:
        """Every alias in force, by name."""
        return dict(self._versions.in_force(tenant))

    def put(
        self,
        tenant: str,
        name: str,
        variant: Variant,
        *,
        shares: Sequence[tuple[Variant, float]] = (),
        without_parents: bool = False,
        actor: Actor = NOBODY,
        rolls_back_to: int | None = None,
    ) -> AliasVersion:
        """Let the alias stand for `variant`; of two at the same time, the later one counts.

        Args:
            rolls_back_to: the version that this one repeats, for the audit log.

        Raises:
            InvalidRequest: the name is not one that an alias can have, or the weights are no parts
                of a whole.
        """
        if not BASE_ID_PATTERN.fullmatch(name):
            raise InvalidRequest(
                f"an alias is 1 to 63 of a-z, 0-9, '.' and '-', the first a letter or digit, "
                f"not {name[:100]!r}"
            )
        if any(not 0 < weight < 1 for _, weight in shares) or sum(w for _, w in shares) >= 1:
            raise InvalidRequest.at(
                "/shares", "weights are above 0, and below 1 together: the rest goes to `variant`"
            )
        main = AliasTarget.of(variant).model_dump()
        others = tuple(
            AliasShare(**AliasTarget.of(other).model_dump(), weight=weight)
            for other, weight in shares
        )

        def following(newest: AliasVersion | None) -> AliasVersion:
            return AliasVersion(
                number=newest.number + 1 if newest is not None else 1,
                **main,
                shares=others,
                without_parents=without_parents,
                key_id=actor.key_id,
            )

        if rolls_back_to is not None:
            self._log("alias.rolled_back", tenant, name, actor, version=rolls_back_to)
        weights: list[JsonValue] = [[share.name, weight] for share, weight in shares]
        self._log("alias.put", tenant, name, actor, variant=variant.name, shares=weights)
        return self._versions.change(tenant, name, following)

    def earlier(self, tenant: str, name: str, number: int | None) -> AliasVersion:
        """The version to go back to; None: the newest that stands for something else than now.

        Raises:
            NotFound: there is no such alias.
            InvalidRequest: `no_such_version`.
        """
        current = self.get(tenant, name)
        for version in self.history(tenant, name):
            differs = version.targets != current.targets
            if not version.deleted and (differs if number is None else version.number == number):
                return version
        wanted = "no version before" if number is None else f"no version {number}"
        raise InvalidRequest.at("/version", f"{name} has {wanted} to go back to", "no_such_version")

    def delete(self, tenant: str, name: str, actor: Actor = NOBODY) -> None:
        """Remove the alias.

        Raises:
            NotFound: there is no such alias.
        """
        current = self.get(tenant, name)
        self._log("alias.deleted", tenant, name, actor)
        end = current.model_dump(exclude={"writer", "created_at", "number", "deleted", "key_id"})
        self._versions.append(
            tenant,
            name,
            AliasVersion(**end, number=current.number + 1, deleted=True, key_id=actor.key_id),
        )

    def users_of_edit(self, tenant: str, edit_id: str) -> list[str]:
        """The aliases in force that need the edit."""
        return [
            name
            for name, alias in self.all(tenant).items()
            if any(edit_id in target.edits for target in alias.targets)
        ]

    def users_of_base(self, base_model: str) -> list[str]:
        """The aliases in force, of every tenant, that stand on the base model."""
        return [
            name
            for tenant in self._versions.tenants()
            for name, alias in self.all(tenant).items()
            if any(target.base_model == base_model for target in alias.targets)
        ]

    def _log(self, event: str, tenant: str, name: str, actor: Actor, **fields: JsonValue) -> None:
        self._audit.append(event, tenant=tenant, actor=actor, name=name, **fields)
