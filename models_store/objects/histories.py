"""What changes is a numbered history: version n+1 is created, never version n rewritten.

`{aliases,behaviors,suffixes,base_ids,…}/{tenant}/{name}/{n:08}.json`; the highest number is the
current one, and a deletion is a version too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from pydantic import Field

from models_store.errors import Conflict, NotFound
from models_store.objects.store import ObjectStore
from models_store.schemas.base import Record

_TRIES = 8


class Version(Record):
    """One entry of a history; kinds of history add their fields."""

    number: int = 1
    deleted: bool = False
    created_at: int = Field(default_factory=lambda: int(time.time()))


V = TypeVar("V", bound=Version)


class Histories(Generic[V]):
    """All histories of one kind, such as the aliases of all tenants."""

    def __init__(self, objects: ObjectStore, folder: str, version: type[V]) -> None:
        self._objects = objects
        self._folder = folder
        self._version = version

    def path(self, tenant: str, name: str, number: int, extension: str = "json") -> str:
        return f"{self._folder}/{tenant}/{name}/{number:08}.{extension}"

    def current(self, tenant: str, name: str) -> V | None:
        """The newest version, or None when there is none or it is a deletion."""
        newest = self.newest(tenant, name)
        return None if newest is None or newest.deleted else newest

    def newest(self, tenant: str, name: str) -> V | None:
        """The newest version, a deletion too."""
        numbers = self._numbers(tenant, name)
        if not numbers:
            return None
        return self._objects.read_record(self.path(tenant, name, numbers[-1]), self._version)

    def all(self, tenant: str, name: str) -> list[V]:
        """Every version, oldest first."""
        found = (
            self._objects.read_record(self.path(tenant, name, number), self._version)
            for number in self._numbers(tenant, name)
        )
        return [version for version in found if version is not None]

    def get(self, tenant: str, name: str) -> V:
        """The current version.

        Raises:
            NotFound: there is none.
        """
        version = self.current(tenant, name)
        if version is None:
            raise NotFound(f"nothing is called {name}")
        return version

    def append(self, tenant: str, name: str, version: V) -> V:
        """Make `version` the current one; its number says which it expects to become.

        Raises:
            Conflict: `changed_meanwhile`, another version took that number.
        """
        if not self._objects.create_record(self.path(tenant, name, version.number), version):
            raise Conflict(
                f"{name} was changed by another request at the same time: read it and try again",
                code="changed_meanwhile",
            )
        return version

    def change(self, tenant: str, name: str, following: Callable[[V | None], V]) -> V:
        """Append what follows the newest version; again, where another request was faster.

        Args:
            following: makes the next version of the newest one, which may be a deletion, or None;
                the newest itself if it is to stay.

        Raises:
            Conflict: `changed_meanwhile`, others were faster each time.
        """
        for attempt in range(1, _TRIES + 1):
            newest = self.newest(tenant, name)
            version = following(newest)
            if version is newest:
                return version
            try:
                return self.append(tenant, name, version)
            except Conflict:
                if attempt == _TRIES:
                    raise
        raise AssertionError("unreachable")

    def names(self, tenant: str) -> Iterator[str]:
        """All names that have a history, sorted; a deleted one too."""
        yield from self._objects.children(f"{self._folder}/{tenant}")

    def tenants(self) -> list[str]:
        """Every tenant that has a history of this kind."""
        return self._objects.children(self._folder)

    def _numbers(self, tenant: str, name: str) -> list[int]:
        return sorted(
            int(child.removesuffix(".json"))
            for child in self._objects.children(f"{self._folder}/{tenant}/{name}")
            if child.endswith(".json")
        )
