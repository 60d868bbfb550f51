"""The parts: what is measured, and what is claimed of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.claims import RatioClaim
from benchmarks.scaling import by_editors, by_edits, by_length, by_size, by_texts
from benchmarks.scaling.points import Point, PointFile
from benchmarks.scaling.power_law import PowerLaw

LINEAR, FLAT = 1.1, 0.1
"""The largest exponents of what grows with its work, and of what does not grow."""


@dataclass(frozen=True)
class Part:
    """One kind of growth."""

    title: str
    sizes: str
    """What the sizes are."""
    measure: Callable[[PointFile], Iterator[Point]]
    """Yields the points that a file does not have."""
    most: float | None = LINEAR
    """The largest exponent; None where the claim is another one."""
    others: Mapping[str, float] = field(default_factory=dict)
    """The largest exponents of series that differ."""
    claims: Callable[[PointFile], Sequence[RatioClaim]] = lambda file: ()
    """Claims that are no exponents."""

    def exponent_claim(self, series: str, law: PowerLaw) -> RatioClaim | None:
        most = self.others.get(series, self.most)
        if most is None:
            return None
        return RatioClaim(f"exponent of {series}", law.exponent, most, "lower")


PARTS: Mapping[str, Part] = {
    "texts": Part("Number of texts", "texts", by_texts.measure),
    "length": Part(
        "Length of texts, 8,192 tokens in all",
        "tokens a text",
        by_length.measure,
        most=None,
        claims=by_length.claims,
    ),
    "size": Part("Size of the model", "weights", by_size.measure),
    "editors": Part("Editors", "editors", by_editors.measure, most=None, claims=by_editors.claims),
    "edits": Part(
        "Stored edits",
        "edits",
        by_edits.measure,
        most=FLAT,
        others={by_edits.SWEEP: LINEAR, by_edits.FIRST_SUBMIT: LINEAR},
    ),
}
