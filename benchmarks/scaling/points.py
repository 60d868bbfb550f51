"""Measured points, in a file that an interrupted run continues."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDER = Path(".scaling")


@dataclass(frozen=True)
class Point:
    """The time that one piece of work took at one size."""

    series: str
    """What was timed."""
    size: float
    seconds: float


class PointFile:
    """The points of one part, as JSON lines; each measured once."""

    def __init__(self, part: str, folder: Path = FOLDER) -> None:
        self.path = folder / f"{part}.jsonl"
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.points = [Point(**json.loads(line)) for line in lines]

    def append(self, point: Point) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(point)) + "\n")
        self.points.append(point)

    def missing(self, series: str, sizes: Sequence[int]) -> list[int]:
        """Those of the sizes at which a series has no point."""
        there = {point.size for point in self.points if point.series == series}
        return [size for size in sizes if size not in there]

    def series(self) -> Iterator[tuple[str, list[Point]]]:
        """Points by series, in the order of their sizes."""
        for name in dict.fromkeys(point.series for point in self.points):
            own = [point for point in self.points if point.series == name]
            yield name, sorted(own, key=lambda point: point.size)
