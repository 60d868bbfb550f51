"""What packages bring, the built-in parts like those from outside: found by entry points.

A package names what it brings in its metadata, in `pyproject.toml` for instance:

    [project.entry-points."scalpel.methods"]
    mean_shift = "scalpel_mean_shift:MeanShift"
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pkgutil import resolve_name
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """What is registered under a group, by name in alphabetical order.

    Names are known without importing anything; a value is imported when it is first used.
    """

    def __init__(self, group: str, pick: Callable[[Any], Any] = lambda loaded: loaded) -> None:
        """Args:
        group: of entry points, such as `scalpel.methods`.
        pick: takes the value out of what an entry point names.
        """
        self._group = group
        self._pick = pick
        self._loaded: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        """Raise `KeyError` where nothing has that name, and what the import raises."""
        if name not in self._loaded:
            point = self._points[name]
            try:
                self._loaded[name] = cast(T, self._pick(point.load()))
            except Exception as error:
                error.add_note(f"while loading {name!r} ({point.value}) of {self._group}")
                raise
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._points)

    def __len__(self) -> int:
        return len(self._points)

    def __contains__(self, name: object) -> bool:
        return name in self._points

    @cached_property
    def _points(self) -> dict[str, EntryPoint]:
        points: dict[str, EntryPoint] = {}
        for point in sorted(entry_points(group=self._group), key=lambda point: point.name):
            other = points.setdefault(point.name, point)
            if other.value != point.value:
                raise RuntimeError(
                    f"{self._group}: two packages bring {point.name!r}: {other.value} and "
                    f"{point.value}; uninstall one of them"
                )
        return points


def function(path: str) -> Callable[..., Any]:
    """The function at `package.module:name`, imported now."""
    return cast(Callable[..., Any], resolve_name(path))
