"""Pieces of pictures: a scale from figures to coordinates, and the elements of an SVG document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

INK, FAINT = "#222", "#bbb"


@dataclass(frozen=True)
class Scale:
    """Maps figures to coordinates of the drawing."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def padded(cls, low: float, high: float, start: float, end: float) -> Scale:
        """With some room on both sides of the figures."""
        room = 0.08 * (high - low) or 1.0
        return cls(low - room, high + room, start, end)

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def document(width: float, height: float, parts: Sequence[str]) -> str:
    """An SVG document of elements on a white ground."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="11">'
    )
    ground = f'<rect width="{width}" height="{height}" fill="white"/>'
    return "\n".join([head, ground, *parts, "</svg>", ""])


def frame(left: float, top: float, width: float, height: float) -> str:
    return (
        f'<rect class="panel" x="{left}" y="{top}" width="{width}" height="{height}" '
        f'fill="none" stroke="{FAINT}"/>'
    )


def text(
    x: float, y: float, words: str, *, anchor: str = "start", size: int = 11, colour: str = INK
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'fill="{colour}">{escape(words)}</text>'
    )


def line(
    x1: float, y1: float, x2: float, y2: float, colour: str = FAINT, *, dashed: bool = False
) -> str:
    dashes = ' stroke-dasharray="4 3"' if dashed else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{dashes}/>'
    )


def dot(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>'
