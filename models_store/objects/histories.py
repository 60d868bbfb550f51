"""Things that change are numbered histories: a version is created and never rewritten.

`{aliases,behaviors,suffixes,base_ids,…}/{tenant}/{name}/{n:08}.json`; the highest number is
current, and a deletion is a version too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from pydantic import Field

from models_store.errors import Conflict, NotFound
from models_store.objects.store import ObjectStore
from models_store.schemas.base import Record

_TRIES = 8


class Version(Record):
    """One version; each kind of history adds its fields."""

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
        """The newest version; None when there is none or it is a deletion."""
        newest = self.newest(tenant, name)
        return None if newest is None or newest.deleted else newest

    def newest(self, tenant: str, name: str) -> V | None:
        """The newest version, which may be a deletion."""
        numbers = self.numbers(tenant, name)
        if not numbers:
            return None
        return self._objects.read_record(self.path(tenant, name, numbers[-1]), self._version)

    def versions(self, tenant: str, name: str, numbers: Iterable[int]) -> Iterator[V]:
        """The versions of these numbers, read as they are asked for."""
        for number in numbers:
            path = self.path(tenant, name, number)
            version = self._objects.read_record(path, self._version)
            if version is not None:
                yield version

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
        """Make `version` the current one, under the number that it carries.

        Raises:
            Conflict: `changed_meanwhile`, there is another version of that number.
        """
        if not self._objects.create_record(self.path(tenant, name, version.number), version):
            raise Conflict(
                f"{name} was changed by another request at the same time: read it and try again",
                code="changed_meanwhile",
            )
        return version

    def change(self, tenant: str, name: str, following: Callable[[V | None], V]) -> V:
        """Append the version that follows the newest one; retried when another request was faster.

        Args:
            following: from the newest version, which may be a deletion or None, to the next one;
                it returns the newest itself to leave things as they are.

        Raises:
            Conflict: `changed_meanwhile`, other requests were faster each time.
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
        """All names that have a history, deleted ones included, sorted."""
        yield from self._objects.children(f"{self._folder}/{tenant}")

    def in_force(self, tenant: str) -> Iterator[tuple[str, V]]:
        """Name and current version of all that have one which can be read, by name."""
        return self._objects.each_readable(
            self.names(tenant), lambda name: self.current(tenant, name)
        )

    def tenants(self) -> list[str]:
        """Every tenant that has a history of this kind."""
        return self._objects.children(self._folder)

    def numbers(self, tenant: str, name: str) -> list[int]:
        """Of all versions, ascending."""
        return sorted(
            int(child.removesuffix(".json"))
            for child in self._objects.children(f"{self._folder}/{tenant}/{name}")
            if child.endswith(".json")
        )
