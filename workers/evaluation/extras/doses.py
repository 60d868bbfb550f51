"""The edit at other strengths than the one that is reported, since people will use them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from models_store.errors import EditFailed
from models_store.schemas.measurements import Dose, Effect, PointDamage
from workers import progress
from workers.surgery.terms import Term

STRENGTHS = (-1.0, 0.25, 0.5, 0.75, 1.0, 1.25)


Written = Callable[[float, PointDamage], tuple[PointDamage, tuple[Effect, ...]]]
"""Generates at a strength: the damage with what text tells of it, and the effects."""


class QuickMeter(Protocol):
    """What measures the damage of an edit without generating text."""

    def quick(self, terms: Sequence[Term], strength: float = 1.0) -> PointDamage:
        """Damage of the edit at a strength; `EditFailed` where the model no longer computes."""
        ...


def doses(
    meter: QuickMeter,
    terms: Sequence[Term],
    strengths: Sequence[float] = STRENGTHS,
    *,
    known: Dose | None = None,
    written: Written | None = None,
) -> tuple[Dose, ...]:
    """Measure an edit at several strengths, each on the same texts.

    Args:
        terms: the edit at strength 1.
        known: the dose of one of the strengths, which is not measured again.
        written: None: no text is made, so neither fluency nor effects are measured.

    Returns:
        One dose a strength, in the order given. One at which the model gives no numbers any more
        has neither damage nor effects; one whose text cannot be had or scored has no effects.
    """
    made = []
    for strength in progress.track(strengths):
        if known is not None and known.strength == strength:
            made.append(known)
            continue
        damage: PointDamage | None = None
        with suppress(EditFailed):
            damage = meter.quick(terms, strength)
        seen: tuple[Effect, ...] = ()
        if damage is not None and written is not None:
            with suppress(EditFailed):
                damage, seen = written(strength, damage)
        made.append(Dose(strength=strength, damage=damage, effects=seen))
    return tuple(made)
