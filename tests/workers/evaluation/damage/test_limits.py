from __future__ import annotations

from typing import Any

import pytest

from models_store.schemas.measurements import Contrast, Damage, Interval, PointDamage, TextQuality
from models_store.schemas.methods import Limits
from workers.evaluation.damage.limits import exceeded, judged, surely_exceeded

LIMITS = Limits(max_kl=0.1, max_perplexity_ratio=1.12, max_domain=0.3, max_fluency=0.2)
WITHIN: dict[str, float | None] = {
    "kl": 0.1,
    "perplexity_ratio": 1.12,
    "domain": 0.3,
    "fluency": 0.2,
    "distinct2_ratio": 0.1,
    "kl_p95": LIMITS.max_kl_p95,
    "changed_choices": LIMITS.max_changed_choices,
    "loops": LIMITS.max_loops,
    "repetition": LIMITS.max_repetition,
    "harmless_refusals": LIMITS.max_harmless_refusals,
}


def _point(**changes: float | None) -> PointDamage:
    return PointDamage.model_validate({**WITHIN, **changes})


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, ()),
        ({"kl": 0.101}, ("max_kl",)),
        ({"kl_preserve": 0.101}, ("max_kl",)),
        ({"kl": 0.2, "kl_preserve": 0.05}, ("max_kl",)),
        ({"perplexity_ratio": 1.13}, ("max_perplexity_ratio",)),
        ({"domain": 0.31, "fluency": 0.21}, ("max_domain", "max_fluency")),
        ({"domain": None, "fluency": None, "perplexity_ratio": None}, ()),
        ({"domain": -5.0}, ()),
        ({"kl_p95": 9.0, "changed_choices": 0.9}, ("max_kl_p95", "max_changed_choices")),
        ({"loops": 0.9, "repetition": 0.9}, ("max_loops", "max_repetition")),
        ({"harmless_refusals": 0.9}, ("max_harmless_refusals",)),
        ({"harmless_refusals": -0.9, "loops": None}, ()),
        ({"distinct2_ratio": 9.0}, ()),
    ],
)
def test_the_limits_that_are_exceeded_are_named(
    changes: dict[str, float | None], names: tuple[str, ...]
) -> None:
    assert exceeded(LIMITS, _point(**changes)) == names


def _around(value: float, half: float = 1.0) -> Interval:
    return Interval(value=value, low=value - half, high=value + half)


def _rise(value: float, half: float) -> Contrast:
    return Contrast(base=0.0, edited=value, difference=_around(value, half))


def _damage(**changes: Any) -> Damage:
    text = TextQuality(distinct2=0.9, loops=0.0, mean_tokens=20, ended=0.5)
    fields: dict[str, Any] = {
        "kl": 0.05,
        "kl_plain": _around(0.05),
        "kl_chat": None,
        "neutral_texts": 64,
        "neutral_positions": 4000,
        "perplexity_ratio": _around(1.2),
        "domain": _around(0.1),
        "fluency": _around(0.25),
        "base": text,
        "edited": text,
        "distinct2_ratio": 1.0,
        "kl_preserve": _around(0.15),
    }
    return Damage.model_validate({**fields, **changes})


def test_the_damage_of_a_receipt_is_judged_by_its_values_not_its_intervals() -> None:
    damage = _damage()
    assert exceeded(LIMITS, damage) == ("max_kl", "max_perplexity_ratio", "max_fluency")
    assert judged(damage)["max_kl"] == 0.15
    assert exceeded(LIMITS, _damage(loops=_rise(0.9, 0.9)))[-1] == "max_loops"


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, ()),
        ({"fluency": _around(0.25, 0.06)}, ()),
        ({"fluency": _around(0.25, 0.04)}, ("max_fluency",)),
        ({"domain": _around(0.5, 0.1), "kl_preserve": None}, ("max_domain",)),
        ({"perplexity_ratio": _around(1.3, 0.1)}, ("max_perplexity_ratio",)),
        ({"kl_preserve": _around(0.15, 0.01)}, ("max_kl",)),
        ({"kl_plain": _around(0.02, 0.01), "kl_chat": _around(0.2, 0.05)}, ("max_kl",)),
        ({"kl_plain": None, "kl": 0.2, "kl_preserve": None}, ("max_kl",)),
        ({"domain": None, "kl_preserve": None}, ()),
        ({"loops": _rise(0.9, 0.8)}, ()),
        ({"loops": _rise(0.9, 0.1), "kl_p95": _around(9.0, 8.9)}, ("max_loops",)),
        ({"changed_choices": _around(0.9, 0.1)}, ("max_changed_choices",)),
    ],
)
def test_a_limit_is_surely_exceeded_where_the_whole_interval_lies_above_it(
    changes: dict[str, Any], names: tuple[str, ...]
) -> None:
    assert surely_exceeded(LIMITS, _damage(**changes)) == names


def test_every_limit_has_a_figure_in_a_receipt_and_in_a_trial() -> None:
    for damage in (_damage(), _point()):
        assert judged(damage).keys() == Limits.model_fields.keys()


def test_a_receipt_and_its_point_are_judged_alike() -> None:
    figures = {"kl_p95": _around(0.7), "changed_choices": _around(0.3), "loops": _rise(0.4, 0.1)}
    damage = _damage(**figures, repetition=_rise(0.2, 0.1), harmless_refusals=_rise(0.3, 0.1))
    assert judged(damage.point) == judged(damage)
    assert None not in judged(damage).values()
