"""Behaviours by name: the presets, and those that a tenant has uploaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal

from models_store import presets
from models_store.audit.log import NOBODY, AuditLog
from models_store.errors import CorruptArtifact, InvalidRequest, NotFound
from models_store.ids import ID_PATTERN, PREFIXES
from models_store.objects.histories import Histories, Version
from models_store.objects.store import ObjectMissing, ObjectStore
from models_store.schemas.behaviors import (
    Behavior,
    BehaviorRef,
    from_lines,
    reference,
    sha256_of,
    to_lines,
)
from models_store.schemas.records import Actor

BEHAVIORS = "behaviors"
"""Folder of their histories."""
_ID_PREFIX = f"{PREFIXES['behavior']}_"


class BehaviorVersion(Version):
    """An uploaded behaviour; its texts lie beside the record."""

    behavior: BehaviorRef
    description: str
    chat: bool
    scorers: tuple[str, ...]
    scorer: str | None = None
    undesired_from: Literal["base_model"] | None = None
    question: str | None = None
    max_new_tokens: int


@dataclass(frozen=True)
class ResolvedBehavior:
    """A behaviour and what an edit says of where it came from."""

    behavior: Behavior
    ref: BehaviorRef

    @cached_property
    def lines(self) -> bytes:
        """Its texts as an edit keeps them."""
        return to_lines(self.behavior)


@cache
def _preset(name: str) -> ResolvedBehavior:
    behavior = presets.load_preset(name)
    return ResolvedBehavior(behavior, reference(behavior))


class BehaviorLibrary:
    """The behaviours that requests can name."""

    def __init__(self, objects: ObjectStore, audit: AuditLog) -> None:
        self._objects = objects
        self._audit = audit
        self._versions: Histories[BehaviorVersion] = Histories(objects, BEHAVIORS, BehaviorVersion)

    def add(
        self, tenant: str, id: str, behavior: Behavior, actor: Actor = NOBODY
    ) -> BehaviorVersion:
        """Keep a (checked) behaviour; adding the same id again changes nothing."""
        newest = self._versions.newest(tenant, id)
        if newest is not None:
            return newest
        ref = reference(behavior, id=id, version=1)
        self._audit.append("behavior.created", tenant=tenant, actor=actor, id=id, sha256=ref.sha256)
        version = BehaviorVersion(
            behavior=ref,
            description=behavior.description,
            chat=behavior.chat,
            scorers=behavior.scorers,
            scorer=behavior.scorer,
            undesired_from=behavior.undesired_from,
            question=behavior.question,
            max_new_tokens=behavior.max_new_tokens,
        )
        self._objects.create(self._texts(tenant, id, version.number), to_lines(behavior))
        return self._versions.append(tenant, id, version)

    def earlier(self, tenant: str, id: str) -> BehaviorVersion | None:
        """The behaviour of that id; None if it was never kept.

        Raises:
            NotFound: it was deleted.
        """
        newest = self._versions.newest(tenant, id)
        return None if newest is None else self.head(tenant, id)

    def head(self, tenant: str, id: str) -> BehaviorVersion:
        """What is known of an uploaded behaviour, without its texts.

        Raises:
            NotFound: no such behaviour.
        """
        if id in presets.preset_names():
            raise NotFound(f"{id} is a preset, not an uploaded behavior")
        version = self._versions.current(tenant, id) if ID_PATTERN.fullmatch(id) else None
        if version is None:
            raise NotFound(f"no such behavior: {id}")
        return version

    def read(self, tenant: str, id: str) -> ResolvedBehavior:
        """An uploaded behaviour with its texts.

        Raises:
            NotFound: no such behaviour.
            CorruptArtifact: its texts are not those that were uploaded.
        """
        version = self.head(tenant, id)
        try:
            lines = self._objects.read(self._texts(tenant, id, version.number))
        except ObjectMissing:
            raise NotFound(f"no such behavior: {id}") from None
        behavior = from_lines(lines)[0]
        if sha256_of(behavior) != version.behavior.sha256:
            raise CorruptArtifact(f"the texts of {id} are not those that were uploaded")
        return ResolvedBehavior(behavior, version.behavior)

    def find(self, tenant: str, name: str, pointer: str = "/behavior") -> ResolvedBehavior:
        """The behaviour that a request names: a preset or an uploaded one.

        Raises:
            InvalidRequest: there is none of that name.
        """
        try:
            if name.startswith(_ID_PREFIX):
                return self.read(tenant, name)
            return _preset(name)
        except (NotFound, KeyError):
            raise InvalidRequest.at(
                pointer,
                f"unknown behavior {name[:100]!r}: give an uploaded one's id (beh_…), the texts "
                f"themselves, or a preset: {', '.join(presets.preset_names())}",
                code="unknown_behavior",
            ) from None

    def ids(self, tenant: str) -> Iterator[str]:
        """Every id that was given, oldest first; deleted ones too."""
        return self._versions.names(tenant)

    def delete(self, tenant: str, id: str, actor: Actor = NOBODY) -> None:
        """Delete an uploaded behaviour; edits made from it keep their own copy of its texts.

        Raises:
            NotFound: no such behaviour.
        """
        current = self.head(tenant, id)
        self._audit.append("behavior.deleted", tenant=tenant, actor=actor, id=id)
        kept = current.model_dump(exclude={"writer", "created_at", "number", "deleted"})
        self._versions.append(
            tenant, id, BehaviorVersion(**kept, number=current.number + 1, deleted=True)
        )
        self._objects.delete(self._texts(tenant, id, current.number))

    def _texts(self, tenant: str, id: str, number: int) -> str:
        return self._versions.path(tenant, id, number, "jsonl")
