from __future__ import annotations

from collections.abc import Sequence

from models_store.errors import EditFailed
from models_store.schemas.measurements import Effect, PointDamage
from tests.app.support.sample_report import effect
from tests.support.progress import shares_of
from workers.evaluation.extras.doses import STRENGTHS, doses
from workers.surgery.terms import Term


class Meter:
    """KL grows as the square of the strength; beyond a strength the model gives no numbers."""

    def __init__(self, most: float = 10.0) -> None:
        self._most = most

    def quick(self, terms: Sequence[Term], strength: float = 1.0) -> PointDamage:
        if strength > self._most:
            raise EditFailed("the edited model gives logits that are not finite")
        return PointDamage(
            kl=0.1 * strength**2,
            perplexity_ratio=None,
            domain=None,
            fluency=None,
            distinct2_ratio=None,
        )


def test_every_strength_is_measured_in_the_order_given() -> None:
    found = doses(Meter(), [])
    assert tuple(dose.strength for dose in found) == STRENGTHS
    assert [dose.damage.kl for dose in found if dose.damage] == [0.1 * s**2 for s in STRENGTHS]
    assert all(dose.effects == () for dose in found)


def test_text_of_each_strength_tells_fluency_and_effects() -> None:
    def at(strength: float, damage: PointDamage) -> tuple[PointDamage, tuple[Effect, ...]]:
        told = damage.model_copy(update={"fluency": strength / 10})
        return told, (effect("tfidf", 0.5, 0.5 - 0.1 * strength),)

    found = doses(Meter(), [], (0.5, 1.0), written=at)
    assert [dose.effects[0].rate.edited for dose in found] == [0.45, 0.4]
    told = [(dose.damage.kl, dose.damage.fluency) for dose in found if dose.damage]
    assert told == [(0.1 * 0.25, 0.05), (0.1, 0.1)]


def test_a_strength_that_breaks_the_model_is_told_and_stops_nothing() -> None:
    found = doses(Meter(most=1.0), [], (1.25, 0.5))
    assert found[0].damage is None
    assert found[1].damage is not None


def test_text_that_cannot_be_scored_does_not_hide_the_damage() -> None:
    def at(strength: float, damage: PointDamage) -> tuple[PointDamage, tuple[Effect, ...]]:
        raise EditFailed("the scorer judge answers something that is no score")

    (found,) = doses(Meter(), [], (0.5,), written=at)
    assert found.damage is not None
    assert found.damage.kl == 0.1 * 0.25
    assert found.effects == ()


def test_progress_ends_at_one() -> None:
    with shares_of() as shares:
        doses(Meter(), [])
    assert shares == sorted(shares)
    assert shares[-1] == 1
