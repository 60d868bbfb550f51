"""What an export format is: a module with two functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from models_store.cards import Use
from models_store.schemas.records import Variant
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import Mixture

Files = Mapping[str, bytes | Path]
"""By name: the bytes, or a file that has them."""


@dataclass(frozen=True)
class Loader:
    """How an export is loaded again."""

    name: str
    version: str
    loaded: Callable[[LoadedModel], AbstractContextManager[LoadedModel]]
    """Within the block the model that it gives runs as exported: the base model with the export
    on it, or another one."""
    dtype: str = "float32"
    """Of the numbers in the files; the coarsest, where there are several."""
    rounded: Callable[[LoadedModel], AbstractContextManager[LoadedModel]] | None = None
    """The base model with its weights rounded as in the files, where the dtype is none of torch's
    or they are rounded again."""


class Format(Protocol):
    """A format whose files can have several dtypes also has `DTYPES`: by name, one for each."""

    def files(self, base: LoadedModel, mixture: Mixture, variant: Variant, scratch: Path) -> Files:
        """The files of a variant.

        Args:
            scratch: an empty folder for those that are not held in memory; it is there until they
                are published.

        Raises:
            InvalidRequest: the format cannot hold such edits.
        """
        ...

    def loader(self, files: Files) -> Loader:
        """Loads them with the library that they are for."""
        ...

    def use(self, files: Files, base: str) -> Use:
        """What the model card says of them.

        Args:
            base: what their users call the base model: its name on the Hugging Face hub if it has
                one there, else its id.
        """
        ...


def content(file: bytes | Path) -> bytes:
    """All bytes of a file of an export."""
    return file if isinstance(file, bytes) else file.read_bytes()
