"""The arms of the quality table: recipes of `auto`, and baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.quality.rows import BASE
from models_store.errors import InvalidRequest
from models_store.schemas.methods import METHODS, Auto
from workers.making.search.choosing import recipes_for
from workers.making.search.recipes import Recipe
from workers.surgery.methods.natural_bias import NaturalBias

DRAWS = 3
"""Number of random directions, and of random sets of rows."""
_DRAWN = ("random_direction", "random_region")
AUTO, RECIPES = "auto", "recipes"
BASELINES: tuple[str, ...] = (
    "paper",
    "paper_alpha",
    "paper_9_epochs",
    "random_direction",
    "random_region",
    "steering",
    "ablation",
    "prompt",
)
ALL: tuple[str, ...] = (BASE, AUTO, RECIPES, *BASELINES)


def names(wanted: Sequence[str], layers: int) -> list[str]:
    """The arms in the order in which they are measured; the base is always first.

    Args:
        wanted: names in `ALL`, or types of method such as `bias` or `natural+bias`.
        layers: of the model.

    Raises:
        InvalidRequest: there is no arm of such a name.
    """
    available = {*ALL, *map(_method, table_of_recipes(layers))}
    wrong = [name for name in wanted if name not in available]
    if wrong:
        raise InvalidRequest(f"no arm {wrong[0]!r}; there are {', '.join(sorted(available))}")
    selected = [BASE, *([AUTO] if AUTO in wanted else [])]
    selected += [recipe.label for recipe in selected_recipes(wanted, layers)]
    for baseline in BASELINES:
        if baseline in wanted and baseline in _DRAWN:
            selected += [f"{baseline}/{number + 1}" for number in range(DRAWS)]
        elif baseline in wanted:
            selected.append(baseline)
    return selected


def selected_recipes(wanted: Sequence[str], layers: int) -> list[Recipe]:
    """The recipes that are arms; `conditional` only by its name, since few behaviours have texts to
    preserve."""
    return [
        recipe
        for recipe in table_of_recipes(layers)
        if _method(recipe) in wanted or (RECIPES in wanted and not _needs_preserved(recipe))
    ]


def table_of_recipes(layers: int) -> list[Recipe]:
    """Every recipe of `auto`, and what it lacks: methods with default settings, and `natural_bias`
    of the base's own continuations."""
    defaults = [Recipe((method(),), (1.0,)) for method in METHODS.values()]
    own = [NaturalBias(source="own", neutral_weight=weight) for weight in (0.0, 0.3)]
    defaults += [Recipe((method,), (1.0,)) for method in own]
    unique: dict[Recipe, Recipe] = {}
    for recipe in [*recipes_for(Auto(), "thorough", layers), *defaults]:
        unique.setdefault(_spelled_out(recipe, layers), recipe)
    return list(unique.values())


def _spelled_out(recipe: Recipe, layers: int) -> Recipe:
    """The recipe with default layers made explicit."""
    methods = tuple(
        method.model_copy(update={"layers": tuple(method.layers_in(layers))})
        if hasattr(method, "layers")
        else method
        for method in recipe.methods
    )
    return replace(recipe, methods=methods)


def _needs_preserved(recipe: Recipe) -> bool:
    return any(row.preserved for method in recipe.methods for row in method.search)


def _method(recipe: Recipe) -> str:
    """Types of its methods, as in the names of candidates."""
    return "+".join(method.type for method in recipe.methods)
