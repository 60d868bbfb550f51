"""What reading a foreign edit gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models_store.errors import InvalidRequest
from models_store.schemas.imports import Approximation
from workers.editor.formats.protocol import Loader
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import Term

MAX_TERMS = 32_000
"""More do not fit the header of a delta."""


@dataclass(frozen=True, eq=False)
class ReadEdit:
    """A foreign edit."""

    terms: Sequence[Term]
    """At strength 1 they do what the files do."""
    loader: Loader | None
    """Puts the files on the base model, with the library that they are for; None where the edit is
    not the same, and `approximation` says how close it is."""
    made_by: str | None = None
    """The method that the files name."""
    made_for: str | None = None
    """The base model that the files name."""
    approximation: Approximation | None = None
    left: Mapping[str, float] | None = None
    """By tensor, of a difference: the share of its norm that the terms leave."""


Reader = Callable[[Mapping[str, Path], LoadedModel], ReadEdit]
"""Reads the files, by the names that they are kept under.

Raises:
    InvalidRequest: no edit of the base model can be made of them.
    CorruptArtifact: they are broken.
"""


def bounded(terms: int) -> None:
    """Raise `InvalidRequest` where there are too many."""
    if terms > MAX_TERMS:
        raise InvalidRequest(
            f"it has {terms} rank-one terms over all modules, and an edit has at most {MAX_TERMS}"
        )
