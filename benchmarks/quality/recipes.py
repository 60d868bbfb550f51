"""Which arms the quality table has: every recipe of `auto` alone, and rivals by their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.quality.rows import BASE
from models_store.errors import InvalidRequest
from models_store.schemas.methods import Auto, Bias, Conditional, NaturalBias
from workers.making.fitting.material import written_layers
from workers.making.search.choosing import recipes_for
from workers.making.search.recipes import Recipe

DRAWS = 3
"""Of random directions, and of random rows."""
_DRAWN = ("random_direction", "random_region")
AUTO, RECIPES = "auto", "recipes"
RIVALS: tuple[str, ...] = (
    "paper",
    "paper_equal_kl",
    "random_direction",
    "random_region",
    "steering",
    "ablation",
    "prompt",
)
ALL: tuple[str, ...] = (BASE, AUTO, RECIPES, *RIVALS)


def names(asked: Sequence[str], layers: int) -> list[str]:
    """The arms in the order in which they are measured, the base first whatever is asked for.

    Args:
        asked: of `ALL`, or types of method such as `bias` or `natural+bias`.
        layers: of the model.

    Raises:
        InvalidRequest: something is asked for that there is not.
    """
    known = {*ALL, *map(_method, table_of_recipes(layers))}
    wrong = [name for name in asked if name not in known]
    if wrong:
        raise InvalidRequest(f"no arm {wrong[0]!r}; there are {', '.join(sorted(known))}")
    found = [BASE, *([AUTO] if AUTO in asked else [])]
    found += [recipe.label for recipe in asked_recipes(asked, layers)]
    for rival in RIVALS:
        if rival in asked and rival in _DRAWN:
            found += [f"{rival}/{number + 1}" for number in range(DRAWS)]
        elif rival in asked:
            found.append(rival)
    return found


def asked_recipes(asked: Sequence[str], layers: int) -> list[Recipe]:
    """The recipes that are arms of their own; `conditional` only by its name, since few behaviours
    say what is to be spared."""
    every = table_of_recipes(layers)
    return [
        one
        for one in every
        if _method(one) in asked or (RECIPES in asked and _method(one) != "conditional")
    ]


def table_of_recipes(layers: int) -> list[Recipe]:
    """Every row of `auto`'s table, and methods by their defaults that it does not have."""
    defaults = [Recipe((method,), (1.0,)) for method in (Bias(), NaturalBias(), Conditional())]
    unique: dict[Recipe, Recipe] = {}
    for recipe in [*recipes_for(Auto(), "thorough", layers), *defaults]:
        unique.setdefault(_spelled_out(recipe, layers), recipe)
    return list(unique.values())


def _spelled_out(recipe: Recipe, layers: int) -> Recipe:
    """The same with its layers named, where it leaves them to the default."""
    methods = tuple(
        method.model_copy(update={"layers": tuple(written_layers(method, layers))})
        if isinstance(method, Bias | NaturalBias | Conditional)
        else method
        for method in recipe.methods
    )
    return replace(recipe, methods=methods)


def _method(recipe: Recipe) -> str:
    """Type of the method, of a pair both, as candidates are called."""
    return "+".join(method.type for method in recipe.methods)
