"""The limits of harm: what each is judged on, and which ones an edit exceeds."""

from __future__ import annotations

from collections.abc import Mapping

from models_store.schemas.measurements import Damage, Interval, PointDamage
from models_store.schemas.methods import Limits


def judged(damage: PointDamage | Damage) -> Mapping[str, float | None]:
    """The figure that each limit is compared with, by the limit's name; None: not measured.

    `max_kl` holds for neutral text and for what is to be preserved: the larger counts.
    """
    kept = _value(damage.kl_preserve)
    return {
        "max_kl": damage.kl if kept is None else max(damage.kl, kept),
        "max_perplexity_ratio": _value(damage.perplexity_ratio),
        "max_domain": _value(damage.domain),
        "max_fluency": _value(damage.fluency),
    }


def exceeded(limits: Limits, damage: PointDamage | Damage) -> tuple[str, ...]:
    """Names of the limits that the damage exceeds; what was not measured exceeds none."""
    figures = judged(damage)
    return tuple(
        name
        for name, limit in limits.model_dump().items()
        if (figure := figures[name]) is not None and figure > limit
    )


def surely_exceeded(limits: Limits, damage: Damage) -> tuple[str, ...]:
    """Names of the limits below which no figure of its interval lies."""
    lows = {
        name: figure.model_copy(update={"value": figure.low})
        for name in ("kl_preserve", "perplexity_ratio", "domain", "fluency")
        if isinstance(figure := getattr(damage, name), Interval)
    }
    parts = [part.low for part in (damage.kl_plain, damage.kl_chat) if part is not None]
    low = damage.model_copy(update={**lows, "kl": max(parts, default=damage.kl)})
    return exceeded(limits, low)


def _value(figure: Interval | float | None) -> float | None:
    return figure.value if isinstance(figure, Interval) else figure
