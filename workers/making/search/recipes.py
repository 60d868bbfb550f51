"""What `auto` tries: the rows of all methods' parts in its table, those of a lower rank first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from models_store.schemas.method_base import FixedMethod, RowPart
from models_store.schemas.methods import METHODS


@dataclass(frozen=True)
class Recipe:
    """A row of the table for one model: an edit of one method or of two."""

    methods: tuple[FixedMethod, ...]
    shares: tuple[float, ...]

    @property
    def label(self) -> str:
        return " with ".join(
            method.label if share == 1 else f"{share:g} of {method.label}"
            for method, share in zip(self.methods, self.shares, strict=True)
        )


def recipes(
    layers: int, max_tokens: int, *, responses: bool = False, preserved: bool = False
) -> list[Recipe]:
    """The table for a model with so many layers; rows that come to the same are there once.

    Args:
        max_tokens: texts are cut there.
        responses: whether the behaviour's texts are responses to prompts; rows for such are left
            out if they are not.
        preserved: whether enough preserved texts are such responses; likewise.
    """
    rows = [(row, name) for name, method in METHODS.items() for row in method.search]
    recipes = [
        Recipe(
            tuple(_settings(part, name, layers, max_tokens) for part in row.parts),
            tuple(part.share for part in row.parts),
        )
        for row, name in sorted(rows, key=lambda entry: entry[0].rank)
        if (responses or not row.responses) and (preserved or not row.preserved)
    ]
    return list(dict.fromkeys(recipes))


def methods_of(tried: Iterable[Recipe]) -> list[FixedMethod]:
    """The methods of recipes, each once."""
    return list(dict.fromkeys(method for recipe in tried for method in recipe.methods))


def _settings(part: RowPart, owner: str, layers: int, max_tokens: int) -> FixedMethod:
    """The method of a part, as a request would give it."""
    settings = {"max_tokens": max_tokens, **part.settings}
    written = part.written(layers)
    if written is not None:
        settings["layers"] = written
    return METHODS[part.method or owner].model_validate(settings)
