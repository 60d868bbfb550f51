"""Measure the edits of the rows with one set of meters, as they are and at a common KL."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from math import isfinite
from pathlib import Path

from benchmarks.beside.lora import adapted
from benchmarks.beside.making import BEHAVIOR, KL, OPTIONS, ROWS, SEED, setting_of, stored_terms
from benchmarks.paper.edits import log
from benchmarks.quality.arms import PreparedArm
from benchmarks.quality.measure import Measure
from benchmarks.quality.rows import BASE, ArmRow, RowFile
from models_store.errors import EditFailed
from models_store.schemas.catalogue import SMOLLM2
from workers.evaluation.damage.neutral import KlMeter, encode_neutral
from workers.runtime.loading import LoadedModel
from workers.surgery.calibrate import Scales
from workers.surgery.terms import Term, scaled

EQUAL = "/equal"
"""Ends the name of an arm that is scaled to the common KL."""


def arms_of(names: Sequence[str]) -> list[str]:
    """Names of all arms of some rows, the base first."""
    arms = [BASE]
    for name in names:
        if name in ROWS and ROWS[name].edits:
            arms += [name] * ROWS[name].as_it_is + [name + EQUAL]
    return arms


class Measuring:
    """Measures arms, each prompt with the same random numbers in all of them."""

    def __init__(self, base: LoadedModel, folder: Path) -> None:
        """Args:
        folder: of the rows.
        """
        self._base = base
        self._folder = folder
        self._setting = setting_of(base)

    def add(self, arms: Sequence[str], file: RowFile) -> None:
        """Add the arms that the file does not have."""
        with self._setting.context.opened():
            for arm in arms:
                if not file.has(SMOLLM2.id, BEHAVIOR, SEED, arm):
                    log(f"measuring {arm}")
                    file.append(self._row(arm))

    def _row(self, arm: str) -> ArmRow:
        row = ArmRow(
            base=SMOLLM2.id, behavior=BEHAVIOR, seed=SEED, arm=arm, label=arm, options=OPTIONS
        )
        return self._measure.row(row, self._made)

    @cached_property
    def _measure(self) -> Measure:
        return Measure(self._setting)

    @cached_property
    def _meter(self) -> KlMeter:
        """Of the texts that the table reports the KL of; nothing else is chosen by it."""
        texts = encode_neutral(
            self._base, "reporting", each=self._setting.context.plan.damage.neutral_each
        )
        return KlMeter.read(self._setting.model, texts.parts)

    def _made(self, arm: str) -> PreparedArm:
        if arm == BASE:
            return PreparedArm(arm, "no edit")
        name = arm.removesuffix(EQUAL)
        own = self._folder / name
        terms = stored_terms(own)
        if terms is None:
            return self._adapter(arm, own)
        if not arm.endswith(EQUAL):
            return PreparedArm(arm, arm, terms, scale=1.0)
        scale, kl = self._at_kl(terms)
        return PreparedArm(arm, arm, scaled(terms, scale), scale=scale, target_kl=KL, scaled_kl=kl)

    def _adapter(self, arm: str, own: Path) -> PreparedArm:
        scale, kl = 1.0, None
        if arm.endswith(EQUAL):
            scale, kl = self._adapter_at_kl(own)
        return PreparedArm(
            arm,
            arm,
            within=partial(adapted, self._base, own, scale),
            scale=scale,
            target_kl=None if kl is None else KL,
            scaled_kl=kl,
        )

    def _at_kl(self, terms: Sequence[Term]) -> tuple[float, float]:
        scales = _scales()
        for scale in scales:
            scales.measured(self._meter.kl(terms, scale))
        return _nearest(scales)

    def _adapter_at_kl(self, own: Path) -> tuple[float, float]:
        scales, meter = _scales(), self._meter  # it reads the base, so before the adapter is there
        with adapted(self._base, own) as scale_to:
            for scale in scales:
                scale_to(scale)
                scales.measured(meter.kl(()))
        return _nearest(scales)


def _scales() -> Scales:
    return Scales(KL, guess=1.0, tolerance=0.05)


def _nearest(scales: Scales) -> tuple[float, float]:
    """Scale and KL.

    Raises:
        EditFailed: no scale leaves a model that computes.
    """
    scale, kl = scales.nearest()
    if not isfinite(kl):
        raise EditFailed("no scale of it leaves a model that computes")
    return scale, kl
