"""Claims, table and pictures from the measured points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.claims import RatioClaim
from benchmarks.page import PAGE
from benchmarks.scaling.parts import PARTS
from benchmarks.scaling.plot import Curve, plot
from benchmarks.scaling.points import FOLDER, Point, PointFile
from benchmarks.scaling.power_law import PowerLaw, fit_power_law

PICTURES = PAGE.with_suffix("")
_LEAST = 3
"""Points of a fit."""


@dataclass(frozen=True)
class Measured:
    """A part with its fits; series of fewer than three points have none."""

    name: str
    file: PointFile
    curves: Sequence[Curve]


def measured(name: str, folder: Path = FOLDER) -> Measured:
    file = PointFile(name, folder)
    curves = [
        Curve(series, points, fit(points))
        for series, points in file.series()
        if len({point.size for point in points}) >= _LEAST
    ]
    return Measured(name, file, curves)


def fit(points: Sequence[Point]) -> PowerLaw:
    return fit_power_law([point.size for point in points], [point.seconds for point in points])


def claims(parts: Sequence[Measured]) -> list[RatioClaim]:
    """Of every part that was measured."""
    made: list[RatioClaim] = []
    for measured in parts:
        part = PARTS[measured.name]
        exponents = [part.exponent_claim(curve.name, curve.law) for curve in measured.curves]
        made += [claim for claim in exponents if claim is not None]
        if measured.file.points:
            made += part.claims(measured.file)
    return made


def section(parts: Sequence[Measured]) -> str:
    """The table of exponents, and the pictures."""
    rows = ["| series | sizes | exponent | of the larger half | seconds |", "|---|---|---|---|---|"]
    for measured in parts:
        rows += [_row(measured.name, curve) for curve in measured.curves]
    pictures = [
        f"![{PARTS[measured.name].title}](performance/{measured.name}.svg)"
        for measured in parts
        if measured.curves
    ]
    return "\n".join(rows) + "\n\n" + "\n".join(pictures)


def write_pictures(parts: Sequence[Measured], folder: Path = PICTURES) -> None:
    folder.mkdir(exist_ok=True)
    for measured in parts:
        part = PARTS[measured.name]
        if measured.curves:
            drawn = plot(part.title, part.sizes, measured.curves)
            (folder / f"{measured.name}.svg").write_text(drawn)


def _row(name: str, curve: Curve) -> str:
    points = curve.points
    larger = points[len(points) // 2 :]
    late = f"{fit(larger).exponent:.2f}" if len(larger) >= _LEAST else ""
    sizes = f"{points[0].size:,.0f} to {points[-1].size:,.0f} {PARTS[name].sizes}"
    times = f"{points[0].seconds:.3g} to {points[-1].seconds:.3g}"
    law = f"{curve.law.exponent:.2f} ± {curve.law.error:.2f}"
    return f"| {curve.name} | {sizes} | {law} | {late} | {times} |"
