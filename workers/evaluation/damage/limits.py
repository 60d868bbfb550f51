"""The limits of harm: what each is judged on, and which ones an edit exceeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from models_store.schemas.measurements import Damage, Figure, PointDamage, interval_of, value_of
from models_store.schemas.methods import Limits


def judged(
    damage: PointDamage | Damage, of: Callable[[Figure], float | None] = value_of
) -> Mapping[str, float | None]:
    """The figure that each limit is compared with, by the limit's name; None: not measured.

    A limit `max_x` is compared with the figure `x`. `max_kl` holds for what is to be preserved too:
    the larger counts.

    Args:
        of: what is taken of a figure.
    """
    figures = {name: of(getattr(damage, name.removeprefix("max_"))) for name in Limits.model_fields}
    # A receipt's `kl` is the larger of two that have intervals.
    parts = (damage.kl_plain, damage.kl_chat) if isinstance(damage, Damage) else ()
    kl = [of(figure) for figure in (*parts, damage.kl_preserve)]
    if not any(parts):
        kl.append(damage.kl)
    return {**figures, "max_kl": max(figure for figure in kl if figure is not None)}


def exceeded(limits: Limits, damage: PointDamage | Damage) -> tuple[str, ...]:
    """Names of the limits that the damage exceeds; what was not measured exceeds none."""
    return _beyond(limits, judged(damage))


def surely_exceeded(limits: Limits, damage: Damage) -> tuple[str, ...]:
    """Names of the limits below which no figure of its interval lies."""
    return _beyond(limits, judged(damage, _low))


def _beyond(limits: Limits, figures: Mapping[str, float | None]) -> tuple[str, ...]:
    return tuple(
        name
        for name, limit in limits.model_dump().items()
        if (figure := figures[name]) is not None and figure > limit
    )


def _low(figure: Figure) -> float | None:
    """The lower end of its interval, where it has one."""
    interval = interval_of(figure)
    return None if interval is None else interval.low
