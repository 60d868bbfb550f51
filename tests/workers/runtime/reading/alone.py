"""Each reading in a pass of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from workers.runtime.loading import LoadedModel
from workers.runtime.reading.answer_starts import (
    Responses,
    ResponseStarts,
    answer_starts,
    require_responses,
    starts_of,
)
from workers.runtime.reading.gradients import GateReadings, Gates
from workers.runtime.reading.labelled import LabelledTexts
from workers.runtime.reading.passes import Reading, read_texts
from workers.runtime.reading.residuals import Layers
from workers.runtime.reading.shifts import Shifts
from workers.runtime.tokens import Batch, Encoded
from workers.surgery.regression import AnswerStarts, LayerStatistics

Visit = Callable[[Batch, int, Tensor, Tensor], None]


class _Visitor(Reading):
    def __init__(self, layers: Sequence[int], visit: Visit) -> None:
        self.layers = layers
        self._visit = visit

    def tensors(self) -> list[Tensor]:
        return []

    def at_layer(self, batch: Batch, layer: int, inputs: Tensor, residual: Tensor) -> None:
        self._visit(batch, layer, inputs, residual)


def visit_layers(
    base: LoadedModel,
    texts: Sequence[Encoded],
    layers: Sequence[int],
    visit: Visit,
    *,
    batch_tokens: int | None = None,
) -> None:
    read_texts(base, texts, [_Visitor(layers, visit)], batch_tokens=batch_tokens)


def gate_readings(
    base: LoadedModel,
    desired: Sequence[Encoded],
    undesired: Sequence[Encoded],
    *,
    layers: Sequence[int] | None = None,
) -> GateReadings:
    sides = LabelledTexts.of(desired, undesired)
    gates = Gates(base, sides, layers)
    read_texts(base, sides.texts, [gates])
    return gates.result()


def bias_statistics(
    base: LoadedModel,
    desired: Sequence[Encoded],
    undesired: Sequence[Encoded],
    layers: Sequence[int],
) -> list[LayerStatistics]:
    sides = LabelledTexts.of(desired, undesired)
    reading = Layers(base, sides, layers)
    read_texts(base, sides.texts, [reading])
    return list(reading.result().values())


def shift_gradients(
    base: LoadedModel,
    desired: Sequence[Encoded],
    undesired: Sequence[Encoded],
    layers: Sequence[int],
    *,
    at_answer_starts: bool = False,
) -> dict[int, Tensor]:
    sides = LabelledTexts.of(desired, undesired)
    shifts = Shifts(base, sides, layers, at_answer_starts=at_answer_starts)
    read_texts(base, sides.texts, [shifts])
    return shifts.gradients


def answer_starts_of(
    base: LoadedModel, fitted: Responses, unseen: Responses, layers: Sequence[int]
) -> list[AnswerStarts]:
    require_responses(fitted)
    rest = fitted.rest_tokens()
    starts = [
        ResponseStarts(base, texts, layers, rest_tokens=rest)
        for texts in (fitted.behavior, fitted.preserved)
    ]
    vectors = [starts_of(base, texts, layers) for texts in (unseen.behavior, unseen.preserved)]
    every = (fitted.behavior, fitted.preserved, unseen.behavior, unseen.preserved)
    for texts, reading in zip(every, [*starts, *vectors], strict=True):
        read_texts(base, texts, [reading])
    return list(answer_starts(*starts, vectors[0].vectors, vectors[1].vectors).values())
