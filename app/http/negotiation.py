"""Which of the types that a path has, a client wants."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import Request

from app.http.errors import NotAcceptable


def wanted_type(request: Request, offered: Sequence[str]) -> str:
    """The best of `offered` for the request's Accept; the first where it doesn't care.

    Raises:
        NotAcceptable: it accepts none of them.
    """
    header = ",".join(request.headers.getlist("accept")) or "*/*"
    ranges = [_parse(part) for part in header.split(",") if part.strip()]
    best = max(offered, key=lambda kind: (_quality(kind, ranges), -offered.index(kind)))
    if _quality(best, ranges) <= 0:
        raise NotAcceptable(f"there is {', '.join(offered)} here, but the request accepts {header}")
    return best


def _parse(part: str) -> tuple[str, float]:
    kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            try:
                quality = float(value)
            except ValueError:
                quality = 0.0
    return kind, quality


def _quality(kind: str, ranges: Sequence[tuple[str, float]]) -> float:
    """That of the most specific range that covers the type."""
    family = kind.partition("/")[0]
    for pattern in (kind, f"{family}/*", "*/*"):
        qualities = [quality for name, quality in ranges if name == pattern]
        if qualities:
            return max(qualities)
    return 0.0
