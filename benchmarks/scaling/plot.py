"""A picture of how the times of a part grow, both axes logarithmic."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.scaling.points import Point
from benchmarks.scaling.power_law import PowerLaw
from benchmarks.svg import Scale, document, dot, frame, line, text

WIDTH, HEIGHT = 320, 220
_LEFT, _TOP, _BOTTOM, _LINE = 64, 32, 40, 16
_COLOURS = ("#1663b3", "#b3361b", "#2b8a3e", "#7b4bb3", "#a06a00", "#0a8f8f", "#777777", "#c2478f")


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
    widths = [math.log10(point.size) for point in points]
    heights = [math.log10(point.seconds) for point in points]
    across = Scale.padded(min(widths), max(widths), _LEFT, _LEFT + WIDTH)
    up = Scale.padded(min(heights), max(heights), bottom, _TOP)
    parts = [
        text(8, 18, title, size=14),
        frame(_LEFT, _TOP, WIDTH, HEIGHT),
        text(_LEFT + WIDTH / 2, bottom + 32, sizes, anchor="middle"),
    ]
    for power in _ticks(widths):
        x, words = across(power), _size(10**power)
        parts += [line(x, _TOP, x, bottom), text(x, bottom + 14, words, anchor="middle")]
    for power in _ticks(heights):
        y, words = up(power), _seconds(10**power)
        parts += [line(_LEFT, y, _LEFT + WIDTH, y), text(_LEFT - 4, y + 4, words, anchor="end")]
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


def _ticks(powers: Sequence[float]) -> Sequence[float]:
    """The powers of ten among the values; the first and the last value where there are few."""
    whole = range(math.ceil(min(powers)), math.floor(max(powers)) + 1)
    return whole if len(whole) > 1 else (min(powers), max(powers))


def _size(value: float) -> str:
    return f"{value:,.0f}" if value < 1e6 else f"{value:.0e}".replace("e+0", "e")


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{1000 * value:.3g} ms"
