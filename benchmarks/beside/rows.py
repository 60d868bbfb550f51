"""The files of the comparison: what each edit cost, a JSON object a line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.json_lines import JsonLines
from models_store.schemas.base import FrozenModel


class Cost(FrozenModel):
    """What it took to make one row."""

    row: str
    label: str
    processes: int = 1
    """That work is shared by, of one thread each."""
    seconds: float | None = None
    core_seconds: float | None = None
    """Of all its processes; unlike `seconds` about the same on a machine that others use too."""
    peak_bytes: int | None = None
    """Resident memory of the process, and what others had of their own."""
    stored_bytes: int | None = None
    figures: Mapping[str, float] = {}
    """What else is known of it, such as the loss of a training."""
    failed: str | None = None
    """Why there is no edit."""


class CostFile(JsonLines[Cost]):
    """A file of costs, appended to as rows are made; the last line of a row counts."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, Cost)

    @property
    def rows(self) -> dict[str, Cost]:
        return {cost.row: cost for cost in self.records}
