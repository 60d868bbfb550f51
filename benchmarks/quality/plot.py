"""Plots of the quality table as SVG: effect against damage, one panel per kind of damage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from benchmarks.quality.rows import Harm
from models_store.schemas.methods import Limits

WIDTH, HEIGHT = 260, 240
_LEFT, _TOP, _BOTTOM, _GAP, _LINE = 52, 44, 40, 24, 16
_INK, _FAINT, _WITHIN, _OVER = "#222", "#bbb", "#1663b3", "#b3361b"


@dataclass(frozen=True)
class Panel:
    """A kind of damage, on the horizontal axis."""

    figure: str
    """Name in `Harm`."""
    title: str
    limit: str
    """Name in `Limits`."""
    zero: float = 0.0
    """Its value without an edit."""


PANELS: tuple[Panel, ...] = (
    Panel("kl", "KL, nats a token", "max_kl"),
    Panel("perplexity_ratio", "perplexity ratio", "max_perplexity_ratio", 1.0),
    Panel("domain", "domain damage, nats a token", "max_domain"),
    Panel("fluency", "loss of fluency, nats a token", "max_fluency"),
)


@dataclass(frozen=True)
class Spot:
    """An arm in all panels."""

    name: str
    effect: float
    """Change of the leading rate."""
    harm: Harm
    exceeds: bool


@dataclass(frozen=True)
class _Scale:
    """Maps figures to coordinates of the drawing."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def plot(title: str, effect: str, spots: Sequence[Spot], limits: Limits) -> str:
    """An SVG document; arms are numbered, with their names below.

    Args:
        effect: title of the vertical axis.
    """
    width = _LEFT + len(PANELS) * (WIDTH + _GAP)
    height = _TOP + HEIGHT + _BOTTOM + _LINE * (len(spots) + 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(8, 18, f"{title}: {effect}", size=14),
    ]
    effects = [0.0, *(spot.effect for spot in spots)]
    vertical = _padded(min(effects), max(effects), _TOP + HEIGHT, _TOP)
    for number, panel in enumerate(PANELS):
        left = _LEFT + number * (WIDTH + _GAP)
        parts += _panel(panel, left, vertical, spots, limits)
    for number, spot in enumerate(spots, 1):
        line = _TOP + HEIGHT + _BOTTOM + number * _LINE
        mark = " (beyond a limit)" if spot.exceeds else ""
        parts.append(_text(_LEFT, line, f"{number}  {spot.name}{mark}", colour=_colour(spot)))
    return "\n".join([*parts, "</svg>", ""])


def _panel(
    panel: Panel, left: int, vertical: _Scale, spots: Sequence[Spot], limits: Limits
) -> list[str]:
    limit = float(getattr(limits, panel.limit))
    shown = [
        (number, spot, value)
        for number, spot in enumerate(spots, 1)
        if (value := getattr(spot.harm, panel.figure)) is not None
    ]
    values = [panel.zero, limit, *(value for _, _, value in shown)]
    across = _padded(min(values), max(values), left, left + WIDTH)
    top, bottom = _TOP, _TOP + HEIGHT
    parts = [
        f'<rect class="panel" x="{left}" y="{top}" width="{WIDTH}" height="{HEIGHT}" '
        f'fill="none" stroke="{_FAINT}"/>',
        _line(left, vertical(0), left + WIDTH, vertical(0), _FAINT),
        _line(across(limit), top, across(limit), bottom, _OVER, dashed=True),
        _text(left + WIDTH / 2, bottom + 30, panel.title, anchor="middle"),
    ]
    for value in (panel.zero, limit):
        parts.append(_text(across(value), bottom + 14, f"{value:g}", anchor="middle"))
    if left == _LEFT:
        for value in (vertical.low, 0.0, vertical.high):
            height = vertical(value) + 4
            parts.append(_text(left - 4, height, f"{100 * value:+.0f}", anchor="end"))
    for number, spot, value in shown:
        x, y = across(value), vertical(spot.effect)
        colour = _colour(spot)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')
        parts.append(_text(x + 5, y - 4, str(number), colour=colour))
    return parts


def _padded(low: float, high: float, start: float, end: float) -> _Scale:
    room = 0.08 * (high - low) or 1.0
    return _Scale(low - room, high + room, start, end)


def _colour(spot: Spot) -> str:
    return _OVER if spot.exceeds else _WITHIN


def _text(
    x: float, y: float, words: str, *, anchor: str = "start", size: int = 11, colour: str = _INK
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'fill="{colour}">{escape(words)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, *, dashed: bool = False) -> str:
    dashes = ' stroke-dasharray="4 3"' if dashed else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{dashes}/>'
    )
