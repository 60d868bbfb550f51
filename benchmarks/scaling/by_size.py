"""By the weights of the model, from 20,000 to a billion: reading a few texts, and fitting on them.

On one core: at some size the work becomes worth a second process, which would bend the line.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import torch

from benchmarks.claims import seconds
from benchmarks.scaling.fitting import Fitter
from benchmarks.scaling.models import SHAPES, Shape, random_model
from benchmarks.scaling.points import Point, PointFile
from benchmarks.scaling.texts import made_sides
from workers.evaluation.data.splits import Sides
from workers.runtime.loading import LoadedModel
from workers.runtime.reading.labelled import LabelledTexts
from workers.runtime.reading.passes import read_texts
from workers.runtime.reading.shifts import Shifts
from workers.runtime.tokens import encode
from workers.surgery.methods.bias import Bias
from workers.surgery.methods.model_surgery import ModelSurgery
from workers.surgery.methods.natural_bias import NaturalBias

FORWARD, BACKWARD = "reading, forward", "reading, forward and backward"
PROBE, SOLVE = "fit of model_surgery", "fit of bias in one layer"
_TEXTS, _TOKENS = 16, 16
_OFTEN = 50_000_000
"""Weights below which everything is measured several times."""
_TIMES = 5


def measure(file: PointFile) -> Iterator[Point]:
    """The points that the file does not have."""
    for shape in SHAPES:
        if file.missing(SOLVE, [shape.weights]):
            yield from _of_shape(shape)


def _of_shape(shape: Shape) -> Iterator[Point]:
    surgery = ModelSurgery(max_tokens=_TOKENS)
    bias = Bias(layers=(shape.layers // 2,), max_tokens=_TOKENS)
    times = _TIMES if shape.weights < _OFTEN else 1
    texts = made_sides(_TEXTS)
    with tempfile.TemporaryDirectory(prefix="scalpel-scaling-") as name:
        base = random_model(shape, Path(name), ranks=1)
        fitter = Fitter(base, Path(name))
        fitter.time(texts, bias)  # warms up; first tokens come from the store from here on
        backward = [_backward(base, texts) for _ in range(times)]
        surgeries = [fitter.time(texts, surgery) for _ in range(times)]
        biases = [fitter.time(texts, bias) for _ in range(times)]
    yield Point(FORWARD, shape.weights, median(taken.reading for taken in surgeries))
    yield Point(BACKWARD, shape.weights, median(backward))
    yield Point(PROBE, shape.weights, median(taken.fit for taken in surgeries))
    yield Point(SOLVE, shape.weights, median(taken.fit for taken in biases))


def _backward(base: LoadedModel, texts: Sides) -> float:
    """Seconds of what `natural_bias` reads of the texts."""
    encoded = encode(base, texts.items, max_tokens=_TOKENS, chat=False)
    sides = LabelledTexts(encoded, 1 - torch.tensor(texts.labels))
    reading = Shifts(base, sides, NaturalBias().layers_in(base.layers))
    return seconds(lambda: read_texts(base, encoded, [reading]))
