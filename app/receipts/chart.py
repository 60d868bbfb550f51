"""The picture of a receipt: rates before and after, drawn as SVG without scripts or styles."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from app.receipts.plots import Tick
from models_store.cards.formats import control_name
from models_store.schemas.measurements import Effect
from models_store.schemas.report import Report

LEFT, WIDTH, RIGHT = 14.0, 410.0, 16.0
"""Columns of the picture: a margin, the scale, a margin."""
ROW = 42.0
"""A name, and below it the marks."""
TOP = 6.0
_STEPS = (0.02, 0.05, 0.1, 0.2, 0.25)
_MOST_TICKS = 6


@dataclass(frozen=True)
class RateRow:
    """One line: where the base, the edited model and its interval lie."""

    label: str
    kind: str
    """`edit` or `control`: the class of its marks."""
    y: float
    base: float
    edited: float
    low: float
    high: float
    title: str
    """Alternative text of the picture."""


@dataclass(frozen=True)
class Chart:
    width: float
    height: float
    rows: tuple[RateRow, ...]
    ticks: tuple[Tick, ...]
    top: float
    bottom: float
    left: float


def chart_of(report: Report) -> Chart:
    """Effects by scorer, then the controls by the leading scorer."""
    named = [(effect.scorer, "edit", effect) for effect in report.effects]
    named += [(control_name(control), "control", control.effects[0]) for control in report.controls]
    most = max(max(_reach(effect)) for _, _, effect in named)
    step = next((s for s in _STEPS if most <= s * _MOST_TICKS), _STEPS[-1])
    ticks = max(1, ceil(min(most, 1.0) / step))
    end = step * ticks

    def x(share: float) -> float:
        return round(LEFT + WIDTH * min(max(share, 0.0), end) / end, 1)

    rows = tuple(
        RateRow(
            label=label,
            kind=kind,
            y=TOP + ROW * (index + 0.7),
            base=x(effect.rate.base),
            edited=x(effect.rate.edited),
            low=x(effect.rate.base + effect.rate.difference.low),
            high=x(effect.rate.base + effect.rate.difference.high),
            title=f"{label}: {effect.rate.base:.0%} to {effect.rate.edited:.0%}",
        )
        for index, (label, kind, effect) in enumerate(named)
    )
    bottom = TOP + ROW * len(rows)
    return Chart(
        width=LEFT + WIDTH + RIGHT,
        height=bottom + 24,
        rows=rows,
        ticks=tuple(Tick(x(step * n), f"{100 * step * n:.0f} %") for n in range(ticks + 1)),
        top=TOP,
        bottom=bottom,
        left=LEFT,
    )


def _reach(effect: Effect) -> tuple[float, float, float]:
    rate = effect.rate
    return rate.base, rate.edited, min(1.0, rate.base + rate.difference.high)
