"""A picture of how the times of a part grow, both axes logarithmic."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.scaling.points import Point
from benchmarks.scaling.power_law import PowerLaw
from benchmarks.svg import FAINT, Scale, document, dot, frame, line, text

WIDTH, HEIGHT = 320, 220
_LEFT, _TOP, _BOTTOM, _LINE = 64, 32, 40, 16
_COLOURS = ("#1663b3", "#b3361b", "#2b8a3e", "#7b4bb3", "#a06a00", "#0a8f8f", "#777777")


@dataclass(frozen=True)
class Curve:
    """A series with its fit."""

    name: str
    points: Sequence[Point]
    law: PowerLaw


def plot(title: str, sizes: str, curves: Sequence[Curve]) -> str:
    """An SVG document.

    Args:
        sizes: title of the horizontal axis; the vertical one is seconds.
    """
    points = [point for curve in curves for point in curve.points]
    bottom = _TOP + HEIGHT
    across = _logarithmic([point.size for point in points], _LEFT, _LEFT + WIDTH)
    up = _logarithmic([point.seconds for point in points], bottom, _TOP)
    parts = [
        text(8, 18, title, size=14),
        frame(_LEFT, _TOP, WIDTH, HEIGHT),
        text(_LEFT + WIDTH / 2, bottom + 32, sizes, anchor="middle"),
    ]
    for power in _powers(across):
        x = across(power)
        parts += [line(x, _TOP, x, bottom), text(x, bottom + 14, _ten(power), anchor="middle")]
    for power in _powers(up):
        y = up(power)
        parts += [line(_LEFT, y, _LEFT + WIDTH, y, FAINT), _seconds(y, power)]
    for number, curve in enumerate(curves):
        parts += _curve(curve, _COLOURS[number % len(_COLOURS)], across, up)
        words = f"{curve.name}: exponent {curve.law.exponent:.2f} ± {curve.law.error:.2f}"
        below = bottom + _BOTTOM + (number + 1) * _LINE
        parts.append(text(_LEFT, below, words, colour=_COLOURS[number % len(_COLOURS)]))
    height = bottom + _BOTTOM + (len(curves) + 1) * _LINE
    return document(_LEFT + WIDTH + 24, height, parts)


def _curve(curve: Curve, colour: str, across: Scale, up: Scale) -> Iterator[str]:
    first, last = curve.points[0].size, curve.points[-1].size
    ends = [(across(math.log10(size)), up(math.log10(curve.law(size)))) for size in (first, last)]
    yield line(*ends[0], *ends[1], colour)
    for point in curve.points:
        yield dot(across(math.log10(point.size)), up(math.log10(point.seconds)), colour)


def _logarithmic(values: Sequence[float], start: float, end: float) -> Scale:
    powers = [math.log10(value) for value in values]
    return Scale.padded(min(powers), max(powers), start, end)


def _powers(scale: Scale) -> range:
    """Powers of ten within the scale."""
    return range(math.ceil(scale.low), math.floor(scale.high) + 1)


def _ten(power: int) -> str:
    return f"{10.0**power:,.0f}" if 0 <= power < 6 else f"1e{power}"


def _seconds(y: float, power: int) -> str:
    words = f"{10**power:,} s" if power >= 0 else f"{10 ** (power + 3):g} ms"
    return text(_LEFT - 4, y + 4, words, anchor="end")
