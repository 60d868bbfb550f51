"""What an export format is: a module with two functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from models_store.schemas.records import Variant
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import Mixture

Files = Mapping[str, bytes]
"""By name."""


@dataclass(frozen=True)
class Loader:
    """How an export is put on a base model again."""

    name: str
    version: str
    loaded: Callable[[LoadedModel], AbstractContextManager[None]]
    """Within the block the base model runs with the export on it."""


class Format(Protocol):
    def files(self, base: LoadedModel, mixture: Mixture, variant: Variant) -> Files:
        """The files of a variant.

        Raises:
            InvalidRequest: the format cannot hold such edits.
        """
        ...

    def loader(self, files: Files) -> Loader:
        """Loads them with the library that they are for."""
        ...
