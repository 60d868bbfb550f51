"""The files of the comparison: what each edit cost, a JSON object a line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

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


class CostFile:
    """A file of costs, appended to as rows are made; the last line of a row counts."""

    def __init__(self, path: Path) -> None:
        """Read the file, if there is one; an incomplete last line is dropped."""
        self.path = path
        self.rows: dict[str, Cost] = {}
        if path.exists():
            text = path.read_text(encoding="utf-8")
            whole = text[: text.rfind("\n") + 1]
            if whole != text:
                path.write_text(whole, encoding="utf-8")
            for line in whole.splitlines():
                cost = Cost.model_validate_json(line)
                self.rows[cost.row] = cost

    def append(self, cost: Cost) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(cost.model_dump_json() + "\n")
        self.rows[cost.row] = cost
