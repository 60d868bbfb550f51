"""Everything that can be read of a model for methods, by the name under which they need it.

Everything is read of the model that the edit goes on top of; see `Source.model`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from models_store.schemas.items import Item
from models_store.schemas.method_base import FixedMethod, Sizes
from workers import progress
from workers.evaluation.damage.neutral import encode_neutral
from workers.evaluation.data.splits import PreservedSplit, split_preserved
from workers.making.cache import Cache
from workers.making.continuations import PROMPTS, SAMPLES
from workers.making.fitting.model_readings import (
    CURVATURE,
    FIRST_TOKENS,
    SHIFT_CURVATURE,
    ModelInputs,
    ModelReading,
)
from workers.making.fitting.own_texts import OwnTexts, own_texts
from workers.making.fitting.source import Source
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
from workers.runtime.reading.residuals import InputMoments, Layers
from workers.runtime.reading.shifts import Shifts, WeightedShifts
from workers.runtime.tokens import Encoded, encode
from workers.surgery.moments import EXACT_SIZE, RANK
from workers.surgery.probe import UNDESIRED
from workers.surgery.regression import AnswerStarts, LayerStatistics, TokenMoments

R = TypeVar("R", bound=Reading)


@dataclass(frozen=True, eq=False)
class Texts:
    """The texts that are read, encoded."""

    fit: list[Encoded]
    """Undesired ones first, each side in the order of the behaviour."""
    labels: Tensor
    heldout: list[Encoded]
    heldout_labels: Tensor
    _starts: dict[int | None, Texts] = field(default_factory=dict)

    @cached_property
    def sides(self) -> LabelledTexts:
        """Of the texts that are fitted on."""
        return LabelledTexts(self.fit, (self.labels != UNDESIRED).long())

    def starts(self, tokens: int | None) -> Texts:
        """These with the first so many tokens of responses; itself where that cuts nothing."""
        cut = [text.start(tokens) for text in self.fit]
        if cut == self.fit:
            return self
        if tokens not in self._starts:
            self._starts[tokens] = replace(self, fit=cut)
        return self._starts[tokens]


@dataclass(frozen=True, eq=False)
class PreservedTexts:
    """Preserved texts that are responses, encoded."""

    fit: list[Encoded]
    heldout: list[Encoded]


@dataclass(frozen=True, eq=False)
class ReadingInputs:
    """What readings are made from."""

    source: Source
    texts: Texts
    max_tokens: int
    """Where texts are cut."""
    cache: Cache

    @property
    def base(self) -> LoadedModel:
        return self.source.model.loaded

    @cached_property
    def of_model(self) -> ModelInputs:
        return ModelInputs(self.cache)

    @cached_property
    def own(self) -> OwnTexts | None:
        """The model's own continuations, if they teach anything."""
        return own_texts(self.source, self.cache)

    @cached_property
    def neutral(self) -> list[Encoded]:
        """Texts that are to feel little of an edit."""
        return list(encode_neutral(self.base, "fitting", each=_NEUTRAL_EACH).texts)

    @cached_property
    def _preserved_items(self) -> PreservedSplit:
        return split_preserved(self.source.preserve, self.source.seed)

    @cached_property
    def preserved(self) -> PreservedTexts:
        split, chat = self._preserved_items, self.source.chat
        return PreservedTexts(
            encode(self.base, split.fit, max_tokens=self.max_tokens, chat=chat),
            encode(self.base, split.heldout, max_tokens=self.max_tokens, chat=chat),
        )

    @property
    def counts(self) -> Counts:
        """Tokens of the texts."""
        fit, heldout = (float(sum(map(len, part))) for part in (self.texts.fit, self.texts.heldout))
        split = self._preserved_items
        preserved = len(split.fit) + len(split.heldout)
        return Counts(fit, heldout, fit * preserved / max(1, len(self.texts.fit)))


@dataclass(frozen=True)
class Counts:
    """Tokens that readings go over."""

    fit: float
    heldout: float
    preserved: float
    """Of preserved texts that are responses, about."""


@dataclass(frozen=True)
class Wanted:
    """One reading for all methods that need it."""

    users: tuple[str, ...]
    """Types of these methods."""
    layers: Sequence[int]
    """That any of them needs."""
    answer_tokens: Sequence[int | None]
    """Each number of first tokens of a response that any of them needs, once."""


class Passes:
    """Passes of texts through the model, each of which all readings of the same texts share."""

    def __init__(self) -> None:
        self._passes: dict[int, tuple[Sequence[Encoded], list[Reading]]] = {}
        """By identity of the texts."""

    def add(self, texts: Sequence[Encoded], reading: R) -> R:
        self._passes.setdefault(id(texts), (texts, []))[1].append(reading)
        return reading

    def run(self, base: LoadedModel) -> None:
        """Each is a step of the work."""
        costs = [
            sum(map(len, texts)) * (3.0 if any(reading.matrices for reading in readings) else 1.0)
            for texts, readings in self._passes.values()
        ]
        progress.plan({str(number): cost for number, cost in enumerate(costs)})
        for number, (texts, readings) in enumerate(self._passes.values()):
            with progress.step(str(number)):
                read_texts(base, texts, readings)


@dataclass(frozen=True)
class ReadingKind:
    """Something that can be read of a model."""

    begin: Callable[[ReadingInputs, Wanted, Passes], Callable[[], Any]]
    """Takes part in passes, and returns what gives the reading once these have run with the model
    that is edited."""
    tokens: Callable[[Counts, Wanted], float]
    """The time that it takes beside the passes that it shares, in tokens of a forward pass."""
    memory: Callable[[Sizes, Wanted], float]
    """Bytes that are kept until methods are fitted."""
    backward: bool = False
    """It takes gradients."""
    of_model: ModelReading[Any, Any] | None = None
    """What is read, where that is read of the model alone and not of the behaviour's texts."""
    begin_tokens: float = 0.0
    """Of `tokens`, those that it begins with."""


def reading_tokens(
    counts: Counts, wanted: Mapping[str, Wanted], known: Collection[str] = ()
) -> float:
    """The time that readings take with the features, in tokens of a forward pass.

    Args:
        known: names of those that are there already.
    """
    kinds = [(READINGS[name], want) for name, want in wanted.items() if name not in known]
    backward = {
        tokens
        for kind, want in kinds
        if kind.backward and kind.of_model is None
        for tokens in want.answer_tokens
    }
    passes = sum(_BACKWARD if tokens is None else 1 + _BACKWARD for tokens in backward)
    shared = counts.fit + counts.heldout + passes * counts.fit
    return shared + sum(kind.tokens(counts, want) for kind, want in kinds)


def wanted_by(methods: Sequence[FixedMethod], layers: int) -> dict[str, Wanted]:
    """The readings that methods need of a model with so many layers, in the order of `READINGS`."""
    needs = [(method.type, need) for method in methods for need in method.needs(layers)]
    wanted = {}
    for name in READINGS:
        uses = [(user, need) for user, need in needs if need.reading == name]
        if uses:
            wanted[name] = Wanted(
                users=tuple(sorted({user for user, _ in uses})),
                layers=sorted({layer for _, need in uses for layer in need.layers}),
                answer_tokens=list(dict.fromkeys(need.answer_tokens for _, need in uses)),
            )
    return wanted


def _layers(
    inputs: ReadingInputs, wanted: Wanted, passes: Passes
) -> Callable[[], dict[int, LayerStatistics]]:
    texts = inputs.texts
    return passes.add(texts.fit, Layers(inputs.base, texts.sides, wanted.layers)).result


def _neutral_inputs(
    inputs: ReadingInputs, wanted: Wanted, passes: Passes
) -> Callable[[], dict[int, TokenMoments]]:
    reading = passes.add(inputs.neutral, InputMoments(inputs.base, wanted.layers))
    return lambda: reading.moments


def _gates(inputs: ReadingInputs, wanted: Wanted, passes: Passes) -> Callable[[], GateReadings]:
    texts = inputs.texts
    return passes.add(texts.fit, Gates(inputs.base, texts.sides, wanted.layers)).result


def _answer_starts(
    inputs: ReadingInputs, wanted: Wanted, passes: Passes
) -> Callable[[], dict[int, AnswerStarts]]:
    base, texts, layers = inputs.base, inputs.texts, wanted.layers
    fitted = Responses(texts.fit, inputs.preserved.fit)
    require_responses(fitted)
    rest = fitted.rest_tokens()
    kinds = (fitted.behavior, fitted.preserved)
    starts = [
        passes.add(some, ResponseStarts(base, some, layers, rest_tokens=rest)) for some in kinds
    ]
    unseen = [
        passes.add(some, starts_of(base, some, layers))
        for some in (texts.heldout, inputs.preserved.heldout)
    ]
    return lambda: answer_starts(starts[0], starts[1], unseen[0].vectors, unseen[1].vectors)


def _shifts(
    inputs: ReadingInputs, wanted: Wanted, passes: Passes, *, at_answer_starts: bool = False
) -> Callable[[], dict[int | None, dict[int, Tensor]]]:
    """Gradients at the outputs of `down_proj`, by number of response tokens and layer."""
    shifts: dict[int | None, Shifts] = {}
    for tokens in wanted.answer_tokens:
        sides = inputs.texts.starts(tokens).sides
        reading = Shifts(inputs.base, sides, wanted.layers, at_answer_starts=at_answer_starts)
        shifts[tokens] = passes.add(sides.texts, reading)
    return lambda: {tokens: reading.gradients for tokens, reading in shifts.items()}


def _answer_shifts(
    inputs: ReadingInputs, wanted: Wanted, passes: Passes
) -> Callable[[], dict[int | None, dict[int, Tensor]]]:
    return _shifts(inputs, wanted, passes, at_answer_starts=True)


def _own_shifts(
    inputs: ReadingInputs, wanted: Wanted, passes: Passes
) -> Callable[[], dict[int | None, dict[int, Tensor]]]:
    """The same of the model's own continuations; nothing where these teach nothing."""
    own = inputs.own
    if own is None:
        return dict
    shifts = {}
    for tokens in wanted.answer_tokens:
        texts = [text.start(tokens) for text in own.texts]
        reading = WeightedShifts(inputs.base, own.weights, wanted.layers)
        shifts[tokens] = passes.add(texts, reading)
    return lambda: {tokens: reading.gradients for tokens, reading in shifts.items()}


def _of_model(
    reading: ModelReading[Any, Any],
    tokens: float,
    memory: Callable[[Sizes, Wanted], float],
    *,
    backward: bool = False,
) -> ReadingKind:
    """A reading that has passes of its own, or comes from the cache."""
    return ReadingKind(
        lambda inputs, wanted, passes: partial(reading.read, inputs.of_model, wanted.layers),
        lambda counts, wanted: tokens,
        memory,
        backward,
        reading,
    )


def _factor(size: int) -> float:
    """Bytes of a factor of the curvature: all of it, or its diagonal and some eigenpairs where it
    is large."""
    return 4.0 * size * (size if size <= EXACT_SIZE else RANK + 1)


def _moments(sizes: Sizes, wanted: Wanted) -> float:
    """Bytes of a moment matrix of the inputs of `down_proj`, a layer."""
    return 4.0 * len(wanted.layers) * sizes.width**2


_BACKWARD = 2.0
"""Of a backward pass, with the head's, as a multiple of a forward pass."""

_NEUTRAL_EACH = 60
"""Plain texts and answers that are to feel little of an edit, so many of each."""
_NEUTRAL_READ = 8e3
"""Their tokens."""
_OWN_GENERATED = PROMPTS * SAMPLES * 24 * 2.5
"""The time that the model's own continuations take to generate, in tokens of a forward pass."""
_OWN_READ = PROMPTS * SAMPLES / 2 * 32 * 3.0
"""The same to read half of them, forward and backward, with their prompts."""

READINGS: Mapping[str, ReadingKind] = {
    # Moments of hidden states inside of layers.
    "layers": ReadingKind(_layers, lambda n, w: 0.3 * n.fit, _moments),
    "neutral inputs": ReadingKind(_neutral_inputs, lambda n, w: 1.3 * _NEUTRAL_READ, _moments),
    "first tokens": _of_model(FIRST_TOKENS, 1500, _moments),
    "shift curvature": _of_model(
        SHIFT_CURVATURE, 6e4, lambda s, w: len(w.layers) * _factor(s.hidden), backward=True
    ),
    "shifts": ReadingKind(_shifts, lambda n, w: 0.0, lambda s, w: 0.0, backward=True),
    "own shifts": ReadingKind(
        _own_shifts,
        lambda n, w: _OWN_GENERATED + _OWN_READ,
        lambda s, w: 0.0,
        begin_tokens=_OWN_GENERATED,
    ),
    "answer starts": ReadingKind(
        _answer_starts, lambda n, w: 0.3 * n.fit + 1.3 * n.preserved, _moments
    ),
    "answer shifts": ReadingKind(_answer_shifts, lambda n, w: 0.0, lambda s, w: 0.0, backward=True),
    "curvature": _of_model(
        CURVATURE,
        25e3,
        lambda s, w: sum(_factor(s.hidden) + _factor(rows) for rows in s.gates),
        backward=True,
    ),
    "gates": ReadingKind(
        _gates,
        lambda n, w: 0.3 * n.fit,
        lambda s, w: sum(4.0 * s.hidden * rows for rows in s.gates),
        backward=True,
    ),
}
"""By the name that a method's `needs` give; read in this order."""


def encode_texts(source: Source, max_tokens: int) -> Texts:
    """The texts that methods are fitted on, and those that are held out.

    Raises:
        InvalidRequest: a text cannot be encoded.
    """

    def encoded(items: Sequence[Item]) -> list[Encoded]:
        return encode(source.model.loaded, items, max_tokens=max_tokens, chat=source.chat)

    fit, heldout = source.splits.fit, source.splits.heldout
    return Texts(
        fit=encoded(fit.items),
        labels=torch.tensor(fit.labels),
        heldout=encoded(heldout.items),
        heldout_labels=torch.tensor(heldout.labels),
    )
