"""How much of an edit is done, by its stage and what each part of it takes."""

from __future__ import annotations

from collections.abc import Mapping

_PART: Mapping[str, str] = {
    "extract": "fit",
    "probe": "fit",
    "select": "fit",
    "tune": "search",
    "evaluate": "test",
    "publish": "test",
}
"""What an estimate counts a stage among."""
_LONG = ("extract", "tune", "evaluate")
"""Stages that take all but a moment of their part."""
USUAL: Mapping[str, float] = {"fit": 0.15, "search": 0.45, "test": 0.4}
"""Shares of the parts of a search, where there is no estimate."""


def share_done(stage: str | None, progress: float, parts: Mapping[str, float] = USUAL) -> float:
    """How much of an edit is done, in [0, 1].

    Args:
        progress: of the stage, in [0, 1].
        parts: what each part of the edit takes, in any unit.
    """
    part = _PART.get(stage or "")
    if part is None:
        return 0.0
    names = list(USUAL)
    before = sum(parts[name] for name in names[: names.index(part)])
    own = parts[part] * (progress if stage in _LONG else 1.0)
    return (before + own) / (sum(parts.values()) or 1.0)
