"""Measured points, in a file that an interrupted run continues."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.json_lines import JsonLines

FOLDER = Path(".scaling")


@dataclass(frozen=True)
class Point:
    """The time that one piece of work took at one size."""

    series: str
    """What was timed."""
    size: float
    seconds: float


class PointFile(JsonLines[Point]):
    """The points of one part; each measured once."""

    def __init__(self, part: str, folder: Path = FOLDER) -> None:
        super().__init__(folder / f"{part}.jsonl", Point)

    @property
    def points(self) -> list[Point]:
        return self.records

    def missing(self, series: str, sizes: Sequence[int]) -> list[int]:
        """Those of the sizes at which a series has no point."""
        there = {point.size for point in self.points if point.series == series}
        return [size for size in sizes if size not in there]

    def series(self) -> Iterator[tuple[str, list[Point]]]:
        """Points by series, in the order of their sizes."""
        for name in dict.fromkeys(point.series for point in self.points):
            own = [point for point in self.points if point.series == name]
            yield name, sorted(own, key=lambda point: point.size)
