"""Scale a candidate until it costs what it may."""

from __future__ import annotations

import math

from pydantic import JsonValue

from models_store.errors import EditFailed
from models_store.schemas.measurements import Damage, PointDamage
from models_store.schemas.methods import Limits
from workers import progress
from workers.evaluation.damage.damage import DamageMeter
from workers.evaluation.damage.limits import judged
from workers.surgery.calibrate import Calibration, Scales
from workers.surgery.fitted import FittedEdit

LIMIT_SHARE = 0.9
"""An edit is scaled to this share of a limit: the limits are judged on other texts."""
KL_ROOM = 0.85
"""Part of a limit of the KL that there is room for on calibration texts: on SmolLM2 edits moved
those that are reported on 1.05 to 1.22 times as far."""
_OF_KL = ("max_kl", "max_kl_p95")
GROWTH: float = 1.5
"""Damage grows as about this power of the scale: KL and perplexity as the square, what happens to
desired text and to fluency more slowly."""


def _kl_room(limits: Limits) -> float:
    """The KL that an edit may have on calibration texts."""
    return KL_ROOM * limits.max_kl


def kl_target(limits: Limits) -> float:
    """The KL on calibration texts that an edit which no other limit stops is scaled to."""
    return LIMIT_SHARE * _kl_room(limits)


def calibrated(
    meter: DamageMeter,
    candidate: FittedEdit,
    limits: Limits,
    *,
    tolerance: float = 0.05,
    max_steps: int = 12,
) -> Calibration:
    """Find the scale with 0.9 of the KL that there is room for, on what is measured and where it is
    felt.

    Raises:
        EditFailed: no scale stays within it.
    """
    target = kl_target(limits)
    scales = Scales(target, guess=candidate.guess, tolerance=tolerance, max_steps=max_steps)
    for scale in scales:
        with progress.step("scale", 1 / max_steps):
            kl = meter.kl(candidate.terms, scale)
        scales.measured(max(kl, candidate.felt_kl * scale**2))
    return scales.calibration()


def fitted_to_limits(
    meter: DamageMeter,
    candidate: FittedEdit,
    limits: Limits,
    *,
    guess: float,
    target: float,
    tolerance: float,
    max_steps: int,
    fluency: float = 0.0,
) -> tuple[float, PointDamage]:
    """Find the scale at which the limit that binds first is used up to a share, and its damage.

    All limits count that need no generated text, that of the KL also where it is felt, and that of
    fluency by what is expected of it.

    Args:
        target: the share.
        fluency: share of its limit that scale 1 is expected to use up.

    Raises:
        EditFailed: no scale stays within all of them.
    """
    measured: dict[float, PointDamage] = {}
    scales = Scales(target, guess=guess, tolerance=tolerance, max_steps=max_steps, growth=GROWTH)
    for scale in scales:
        try:
            with progress.step("scale", 1 / max_steps):
                measured[scale] = damage = meter.quick(candidate.terms, scale)
        except EditFailed:
            scales.measured(math.inf)  # the model no longer computes: turn back from there
            continue
        felt = candidate.felt_kl * scale**2 / _kl_room(limits)
        share = used(limits, damage)
        scales.measured(max(share, felt, fluency * math.pow(scale, GROWTH)))
    try:
        calibration = scales.calibration()
    except EditFailed:
        raise EditFailed("no scale that was tried stays within the limits") from None
    return calibration.scale, measured[calibration.scale]


def used(limits: Limits, damage: PointDamage | Damage) -> float:
    """How much of the limit that is used up most is used up: 1 is at the limit."""
    allowed = limits.model_dump()
    allowed.update({name: KL_ROOM * allowed[name] for name in _OF_KL})
    shares = []
    for name, figure in judged(damage).items():
        if figure is None:
            continue
        if name == "max_perplexity_ratio":
            shares.append(math.log(figure) / math.log(allowed[name]))
        else:
            shares.append(figure / allowed[name])
    return max(shares)


def fluency_used(limits: Limits, damage: PointDamage) -> float:
    """The same for fluency alone, which takes generated text; 0 where it was not measured."""
    return (damage.fluency or 0.0) / limits.max_fluency


def at_limit(scale: float, share: float) -> float:
    """The scale that may use 0.9 of a limit of which `scale` uses `share`, which is positive."""
    step: float = (LIMIT_SHARE / share) ** (1 / GROWTH)
    return scale * step


def details_of(calibration: Calibration, limits: Limits) -> dict[str, JsonValue]:
    """What the receipt tells of a calibration."""
    return {
        "target_kl": kl_target(limits),
        "kl": calibration.kl,
        "reached": calibration.reached,
        "trace": [{"scale": scale, "kl": kl} for scale, kl in calibration.trace],
    }
