"""By the length of texts, at the same number of tokens in all: reading."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.claims import RatioClaim
from benchmarks.scaling.fitting import HELD_OUT, Fitter
from benchmarks.scaling.models import MEDIUM, random_model
from benchmarks.scaling.points import Point, PointFile
from benchmarks.scaling.texts import made_sides
from workers.surgery.methods.model_surgery import ModelSurgery

LENGTHS = (16, 32, 64, 128, 256, 512)
TOKENS = 8_192
SERIES = "reading 8,192 tokens"
_WARM_UP = 64
_RANKS = 2


def claims(file: PointFile) -> list[RatioClaim]:
    """What attention explains: its products with keys and values, beside those with weights."""
    by_length = {point.size: point.seconds for point in file.points}
    if not {LENGTHS[0], LENGTHS[-1]} <= by_length.keys():
        return []
    most = operations(LENGTHS[-1]) / operations(LENGTHS[0])
    ratio = by_length[LENGTHS[-1]] / by_length[LENGTHS[0]]
    claim = f"time a token in texts of {LENGTHS[-1]} tokens against texts of {LENGTHS[0]}"
    return [RatioClaim(claim, ratio, round(most, 2), "lower")]


def operations(length: int) -> float:
    """Of a token: 2 a weight, and 4 for each layer, hidden dimension and position of its text, as
    if attention also computed what is masked."""
    return 2 * MEDIUM.weights + 4 * MEDIUM.layers * length * MEDIUM.hidden


def measure(file: PointFile) -> Iterator[Point]:
    """The points that the file does not have."""
    missing = file.missing(SERIES, LENGTHS)
    if not missing:
        return
    with tempfile.TemporaryDirectory(prefix="scalpel-scaling-") as name:
        fitter = Fitter(random_model(MEDIUM, Path(name), _RANKS), Path(name))
        fitter.time(made_sides(_WARM_UP), ModelSurgery())
        for length in missing:
            # A word has a token at least, so every text is cut at its length.
            texts = made_sides(TOKENS // length - HELD_OUT, words=length)
            yield Point(SERIES, length, fitter.time(texts, ModelSurgery(max_tokens=length)).reading)
