"""Plots of the quality table as SVG: effect against damage, one panel per kind of damage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.quality.rows import Harm
from benchmarks.svg import FAINT, Scale, document, dot, frame, line, text
from models_store.schemas.methods import Limits

WIDTH, HEIGHT = 260, 240
_LEFT, _TOP, _BOTTOM, _GAP, _LINE = 52, 44, 40, 24, 16
_WITHIN, _OVER = "#1663b3", "#b3361b"


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


def plot(title: str, effect: str, spots: Sequence[Spot], limits: Limits) -> str:
    """An SVG document; arms are numbered, with their names below.

    Args:
        effect: title of the vertical axis.
    """
    width = _LEFT + len(PANELS) * (WIDTH + _GAP)
    height = _TOP + HEIGHT + _BOTTOM + _LINE * (len(spots) + 1)
    parts = [text(8, 18, f"{title}: {effect}", size=14)]
    effects = [0.0, *(spot.effect for spot in spots)]
    vertical = Scale.padded(min(effects), max(effects), _TOP + HEIGHT, _TOP)
    for number, panel in enumerate(PANELS):
        left = _LEFT + number * (WIDTH + _GAP)
        parts += _panel(panel, left, vertical, spots, limits)
    for number, spot in enumerate(spots, 1):
        below = _TOP + HEIGHT + _BOTTOM + number * _LINE
        mark = " (beyond a limit)" if spot.exceeds else ""
        parts.append(text(_LEFT, below, f"{number}  {spot.name}{mark}", colour=_colour(spot)))
    return document(width, height, parts)


def _panel(
    panel: Panel, left: int, vertical: Scale, spots: Sequence[Spot], limits: Limits
) -> list[str]:
    limit = float(getattr(limits, panel.limit))
    shown = [
        (number, spot, value)
        for number, spot in enumerate(spots, 1)
        if (value := getattr(spot.harm, panel.figure)) is not None
    ]
    values = [panel.zero, limit, *(value for _, _, value in shown)]
    across = Scale.padded(min(values), max(values), left, left + WIDTH)
    top, bottom = _TOP, _TOP + HEIGHT
    parts = [
        frame(left, top, WIDTH, HEIGHT),
        line(left, vertical(0), left + WIDTH, vertical(0), FAINT),
        line(across(limit), top, across(limit), bottom, _OVER, dashed=True),
        text(left + WIDTH / 2, bottom + 30, panel.title, anchor="middle"),
    ]
    for value in (panel.zero, limit):
        parts.append(text(across(value), bottom + 14, f"{value:g}", anchor="middle"))
    if left == _LEFT:
        for value in (vertical.low, 0.0, vertical.high):
            height = vertical(value) + 4
            parts.append(text(left - 4, height, f"{100 * value:+.0f}", anchor="end"))
    for number, spot, value in shown:
        x, y = across(value), vertical(spot.effect)
        colour = _colour(spot)
        parts.append(dot(x, y, colour))
        parts.append(text(x + 5, y - 4, str(number), colour=colour))
    return parts


def _colour(spot: Spot) -> str:
    return _OVER if spot.exceeds else _WITHIN
