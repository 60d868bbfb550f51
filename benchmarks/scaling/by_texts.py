"""By the number of texts: splitting a behaviour, and reading its texts and fitting a method."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks.claims import seconds
from benchmarks.edit_cost import load
from benchmarks.scaling.fitting import Fitter
from benchmarks.scaling.models import SMALL, random_model
from benchmarks.scaling.points import Point, PointFile
from benchmarks.scaling.texts import made_sides
from models_store.schemas.behaviors import Behavior
from models_store.schemas.method_base import FixedMethod
from workers.evaluation.data.splits import split_behavior
from workers.runtime.loading import LoadedModel
from workers.surgery.methods.model_surgery import ModelSurgery
from workers.surgery.methods.natural_bias import NaturalBias

SIZES = (250, 500, 1_000, 2_000, 4_000, 8_000)
SMOLLM2_SIZES = (125, 250, 500, 1_000)
"""A text takes SmolLM2 a tenth of a second and more."""
SPLITTING = "splitting into parts"
_WARM_UP = 64
_RANKS = 2


def measure(file: PointFile) -> Iterator[Point]:
    """The points that the file does not have."""
    for size in file.missing(SPLITTING, SIZES):
        sides = made_sides(size)
        behavior = Behavior(name="made up", undesired=sides.undesired, desired=sides.desired)
        yield Point(SPLITTING, size, seconds(partial(split_behavior, behavior, 0)))
    for method in (NaturalBias(), ModelSurgery()):
        yield from _fitting(
            file, method, "small model", SIZES, lambda folder: random_model(SMALL, folder, _RANKS)
        )
    smollm2 = partial(load, device="cpu", dtype="float32", threads=_RANKS, ranks=True)
    yield from _fitting(file, ModelSurgery(), "SmolLM2", SMOLLM2_SIZES, lambda _: smollm2())


def _fitting(
    file: PointFile,
    method: FixedMethod,
    model: str,
    sizes: Sequence[int],
    load_in: Callable[[Path], LoadedModel],
) -> Iterator[Point]:
    series = f"{method.type}, {model}"
    missing = file.missing(series, sizes)
    if not missing:
        return
    with tempfile.TemporaryDirectory(prefix="scalpel-scaling-") as name:
        fitter = Fitter(load_in(Path(name)), Path(name))
        fitter.time(made_sides(_WARM_UP), method)
        for size in missing:
            yield Point(series, size, sum(fitter.time(made_sides(size), method)))
