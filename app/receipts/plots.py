"""Plots of a receipt: figures against strength, and candidates by gain and distance from the base.

They are drawn as SVG without scripts or styles, so this is where every mark gets its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, floor, log10

from models_store.cards.formats import percent, plain, signed, written
from models_store.schemas.measurements import Dose
from models_store.schemas.report import Candidate, Report

LEFT, WIDTH, RIGHT = 54.0, 362.0, 24.0
TOP, HEIGHT, BOTTOM = 14.0, 200.0, 40.0
CROWDED = 24.0
"""Two dots nearer than this have their labels on different sides."""
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_MOST_TICKS = 5


@dataclass(frozen=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True)
class Dot:
    """A point, with a bar for its interval where it has one."""

    x: float
    y: float
    low: float
    """Where the bar begins and ends; both are `y` where there is none."""
    high: float
    kind: str
    """`edit`, `over` or `selected`: the class of its marks."""
    label: str
    label_left: bool
    """Where a label on the right would run into another one."""
    title: str
    """Alternative text of the picture."""


@dataclass(frozen=True)
class Guide:
    """A line that a value is held against, across the plot or from bottom to top."""

    x1: float
    y1: float
    x2: float
    y2: float
    label: str


@dataclass(frozen=True)
class Plot:
    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    title: str
    x_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    dots: tuple[Dot, ...]
    line: str
    """Points of a line through the dots, or nothing."""
    guides: tuple[Guide, ...]


@dataclass(frozen=True)
class _Point:
    x: float
    y: float
    low: float
    high: float
    kind: str
    label: str
    title: str


def dose_plots(report: Report) -> tuple[Plot, ...]:
    """KL by strength and, where it was measured, the leading rate by strength."""
    doses = sorted((dose for dose in report.doses if dose.damage), key=lambda dose: dose.strength)
    if not doses:
        return ()
    plots = [_dose_kl(doses, report.limits.get("max_kl"))]
    if any(dose.effects for dose in doses):
        plots.append(_dose_rate([dose for dose in doses if dose.effects]))
    return tuple(plots)


def candidate_plot(report: Report) -> Plot | None:
    """Gain by the leading scorer against KL, one point a candidate; None without a search."""
    if report.search is None or not report.search.candidates:
        return None
    return _plot(
        "Gain by KL of the candidates",
        "KL on neutral text, nats a token",
        [_candidate(candidate) for candidate in report.search.candidates],
        vertical=report.limits.get("max_kl"),
        shares=True,
    )


def _dose_kl(doses: Sequence[Dose], limit: float | None) -> Plot:
    points = []
    for dose in doses:
        assert dose.damage is not None
        kl = dose.damage.kl
        kind = "over" if limit is not None and kl > limit else "edit"
        title = f"strength {written(dose.strength)}: KL {plain(kl, 3)}"
        points.append(_Point(dose.strength, kl, kl, kl, kind, "", title))
    # At strength 0 the edited model is the base.
    return _plot(
        "KL by strength",
        "strength",
        points,
        horizontal=limit,
        guide="limit on KL",
        through=_Point(0.0, 0.0, 0.0, 0.0, "edit", "", ""),
    )


def _dose_rate(doses: Sequence[Dose]) -> Plot:
    base = doses[0].effects[0].rate.base
    points = []
    for dose in doses:
        rate = dose.effects[0].rate
        low, high = rate.base + rate.difference.low, rate.base + rate.difference.high
        title = f"strength {written(dose.strength)}: {percent(rate.edited)}"
        points.append(
            _Point(dose.strength, rate.edited, max(low, 0.0), min(high, 1.0), "edit", "", title)
        )
    return _plot(
        f"Undesired text by strength, by {doses[0].effects[0].scorer}",
        "strength",
        points,
        horizontal=base,
        guide="base",
        through=_Point(0.0, base, base, base, "edit", "", ""),
        shares=True,
    )


def _candidate(candidate: Candidate) -> _Point:
    change = candidate.effects[0].rate.difference if candidate.effects else None
    gain = 0.0 if change is None else -change.value
    kind = "selected" if candidate.selected else ("over" if candidate.exceeded else "edit")
    return _Point(
        x=candidate.damage.kl,
        y=gain,
        low=gain if change is None else -change.high,
        high=gain if change is None else -change.low,
        kind=kind,
        label=str(candidate.index),
        title=(
            f"{candidate.index}: {candidate.label}, gain {signed(100 * gain, 0)} points, "
            f"KL {plain(candidate.damage.kl, 3)}"
        ),
    )


def _plot(
    title: str,
    x_label: str,
    points: Sequence[_Point],
    *,
    horizontal: float | None = None,
    vertical: float | None = None,
    guide: str = "limit",
    through: _Point | None = None,
    shares: bool = False,
) -> Plot:
    """Scale the points into a frame that holds every mark.

    Args:
        horizontal, vertical: where guides lie.
        through: one more point of the line, where nothing was measured; None: no line.
        shares: whether y is a share, written in percent.
    """
    extra = [] if through is None else [through]
    xs = [0.0, *(p.x for p in (*points, *extra)), *([] if vertical is None else [vertical])]
    ys = [0.0, *([] if horizontal is None else [horizontal])]
    for p in points:
        ys += [p.low, p.high, p.y]
    x_ticks, y_ticks = _ticks(min(xs), max(xs)), _ticks(min(ys), max(ys))
    right, bottom = LEFT + WIDTH, TOP + HEIGHT

    def x(value: float) -> float:
        return round(LEFT + WIDTH * (value - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]), 1)

    def y(value: float) -> float:
        return round(bottom - HEIGHT * (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]), 1)

    guides = []
    if horizontal is not None:
        guides.append(Guide(LEFT, y(horizontal), right, y(horizontal), guide))
    if vertical is not None:
        guides.append(Guide(x(vertical), TOP, x(vertical), bottom, guide))
    line = sorted((*points, *extra), key=lambda p: p.x) if extra else []
    return Plot(
        width=right + RIGHT,
        height=bottom + BOTTOM,
        left=LEFT,
        right=right,
        top=TOP,
        bottom=bottom,
        title=title,
        x_label=x_label,
        x_ticks=tuple(Tick(x(value), written(value)) for value in x_ticks),
        y_ticks=tuple(
            Tick(y(value), f"{written(100 * value)} %" if shares else written(value))
            for value in y_ticks
        ),
        dots=_beside(
            [
                Dot(x(p.x), y(p.y), y(p.low), y(p.high), p.kind, p.label, False, p.title)
                for p in points
            ]
        ),
        line=" ".join(f"{x(p.x)},{y(p.y)}" for p in line),
        guides=tuple(guides),
    )


def _beside(dots: Sequence[Dot]) -> tuple[Dot, ...]:
    """Move labels that would lie on one another to the left of their dots."""
    placed: list[Dot] = []
    for dot in dots:
        crowded = any(
            abs(dot.x - other.x) < CROWDED and abs(dot.y - other.y) < CROWDED
            for other in placed
            if not other.label_left
        )
        placed.append(replace(dot, label_left=crowded))
    return tuple(placed)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers, equally far apart, from `low` or less to `high` or more."""
    span = (high - low) or 1.0
    power = 10.0 ** floor(log10(span / _MOST_TICKS))
    step = next(s * power for s in _STEPS if span / (s * power) <= _MOST_TICKS)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [n * step for n in range(first, max(last, first + 1) + 1)]
