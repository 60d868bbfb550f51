"""Everything that can be read of a model for methods, by the name under which they need it.

Everything is read of the model that the edit goes on top of; see `Source.model`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from pydantic import JsonValue
from torch import Tensor

from models_store.schemas.items import Item
from models_store.schemas.method_base import FixedMethod, Sizes
from models_store.weights.architectures import MatrixKey
from workers import progress
from workers.evaluation.damage.damage import REPORTED
from workers.evaluation.damage.neutral import encode_neutral
from workers.evaluation.data.splits import Preserved, Splits, split_preserved
from workers.making.cache import Cache
from workers.runtime.edited_model import EditedModel
from workers.runtime.loading import LoadedModel
from workers.runtime.reading.answer_starts import Answers, answer_starts
from workers.runtime.reading.benign import BENIGN_VERSION, benign_statistics
from workers.runtime.reading.gradients import GateReadings, gate_keys, gate_readings
from workers.runtime.reading.residuals import FIRST_TOKENS_VERSION, bias_statistics, first_tokens
from workers.runtime.reading.shifts import SHIFTS_VERSION, shift_curvature, shift_gradients
from workers.runtime.tokens import Encoded, encode
from workers.surgery.curvature import Curvature
from workers.surgery.moments import EXACT_SIZE, RANK, Moment, moment_from_tensors
from workers.surgery.probe import DESIRED, UNDESIRED
from workers.surgery.regression import AnswerStarts, FirstTokens, LayerStatistics

BENIGN_TOKENS = 160
"""Neutral texts are cut there when the curvature is read."""


@dataclass(frozen=True, eq=False)
class Source:
    """What an edit is made from."""

    model: EditedModel
    """What the edit goes on top of: the base, with the parent edits if any."""
    splits: Splits
    chat: bool
    """Prompts pass through the chat template."""
    seed: int
    preserve: Sequence[Item] = ()
    """For methods that take care of it while they are fitted."""


@dataclass(frozen=True, eq=False)
class Texts:
    """The texts that are read, encoded."""

    fit: list[Encoded]
    """Undesired ones first, each side in the order of the behaviour."""
    labels: Tensor
    heldout: list[Encoded]
    heldout_labels: Tensor

    @property
    def undesired(self) -> list[Encoded]:
        return self.fit[: int((self.labels == UNDESIRED).sum())]

    @property
    def desired(self) -> list[Encoded]:
        return self.fit[len(self.undesired) :]


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
    def preserved(self) -> Preserved:
        return split_preserved(self.source.preserve, self.source.seed)

    @cached_property
    def benign(self) -> list[Encoded]:
        """Texts that curvature is read from."""
        return benign_texts(self.base)

    @property
    def counts(self) -> Counts:
        """Tokens of the texts."""
        fit, heldout = (float(sum(map(len, part))) for part in (self.texts.fit, self.texts.heldout))
        preserved = len(self.preserved.fit) + len(self.preserved.heldout)
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


@dataclass(frozen=True)
class ReadingKind:
    """Something that can be read of a model."""

    read: Callable[[ReadingInputs, Wanted], Any]
    tokens: Callable[[Counts, Wanted], float]
    """The time that it takes, in tokens of a plain forward pass."""
    memory: Callable[[Sizes, Wanted], float]
    """Bytes that are kept until methods are fitted."""
    backward: bool = False
    """It takes gradients."""


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


def _layers(inputs: ReadingInputs, wanted: Wanted) -> dict[int, LayerStatistics]:
    texts = inputs.texts
    statistics = bias_statistics(inputs.base, texts.desired, texts.undesired, wanted.layers)
    return {layer.layer: layer for layer in statistics}


def _first_tokens(inputs: ReadingInputs, wanted: Wanted) -> dict[int, FirstTokens]:
    def made(missing: Sequence[int]) -> dict[int, dict[str, Tensor]]:
        return {
            layer: {"fitted": states.fitted, "checked": states.checked}
            for layer, states in first_tokens(inputs.base, missing).items()
        }

    keys: dict[int, JsonValue] = {layer: [FIRST_TOKENS_VERSION, layer] for layer in wanted.layers}
    return {
        layer: FirstTokens(tensors["fitted"], tensors["checked"])
        for layer, tensors in inputs.cache.each("first tokens", keys, made).items()
    }


def _shift_curvature(inputs: ReadingInputs, wanted: Wanted) -> dict[int, Moment]:
    def made(missing: Sequence[int]) -> dict[int, dict[str, Tensor]]:
        moments = shift_curvature(inputs.base, inputs.benign, missing)
        return {layer: moment.to_tensors() for layer, moment in moments.items()}

    spelled = _spelled(inputs.benign)
    keys: dict[int, JsonValue] = {
        layer: [SHIFTS_VERSION, layer, spelled] for layer in wanted.layers
    }
    return {
        layer: moment_from_tensors(tensors)
        for layer, tensors in inputs.cache.each("shift curvature", keys, made).items()
    }


def _curvature(inputs: ReadingInputs, wanted: Wanted) -> dict[MatrixKey, Curvature]:
    def made(missing: Sequence[MatrixKey]) -> dict[MatrixKey, dict[str, Tensor]]:
        layers = [key.layer for key in missing]
        statistics = benign_statistics(inputs.base, inputs.benign, layers=layers)
        return {key: curvature.to_tensors() for key, curvature in statistics.items()}

    spelled = _spelled(inputs.benign)
    keys: dict[MatrixKey, JsonValue] = {
        key: [BENIGN_VERSION, list(key), spelled] for key in gate_keys(inputs.base, wanted.layers)
    }
    return {
        key: Curvature.from_tensors(tensors)
        for key, tensors in inputs.cache.each("curvature", keys, made).items()
    }


def _gates(inputs: ReadingInputs, wanted: Wanted) -> GateReadings:
    texts = inputs.texts
    return gate_readings(inputs.base, texts.desired, texts.undesired, layers=wanted.layers)


def _answer_starts(inputs: ReadingInputs, wanted: Wanted) -> dict[int, AnswerStarts]:
    fitted, unseen = (
        encode(inputs.base, items, max_tokens=inputs.max_tokens, chat=inputs.source.chat)
        for items in (inputs.preserved.fit, inputs.preserved.heldout)
    )
    statistics = answer_starts(
        inputs.base,
        Answers(inputs.texts.fit, fitted),
        Answers(inputs.texts.heldout, unseen),
        wanted.layers,
    )
    return {layer.layer: layer for layer in statistics}


def _shifts(
    inputs: ReadingInputs, wanted: Wanted, *, at_answer_starts: bool = False
) -> dict[int | None, dict[int, Tensor]]:
    """Gradients at the outputs of `down_proj`, by number of response tokens and layer."""
    return {
        tokens: shift_gradients(
            inputs.base,
            [text.start(tokens) for text in inputs.texts.desired],
            [text.start(tokens) for text in inputs.texts.undesired],
            wanted.layers,
            at_answer_starts=at_answer_starts,
        )
        for tokens in progress.track(wanted.answer_tokens)
    }


def _answer_shifts(inputs: ReadingInputs, wanted: Wanted) -> dict[int | None, dict[int, Tensor]]:
    return _shifts(inputs, wanted, at_answer_starts=True)


def _spelled(texts: Sequence[Encoded]) -> list[JsonValue]:
    """What names texts in keys of the cache."""
    return [[*text.ids, text.prompt_length] for text in texts]


def _factor(size: int) -> float:
    """Bytes of a factor of the curvature: all of it, or its diagonal and some eigenpairs where it
    is large."""
    return 4.0 * size * (size if size <= EXACT_SIZE else RANK + 1)


def _moments(sizes: Sizes, wanted: Wanted) -> float:
    """Bytes of a moment matrix of the inputs of `down_proj`, a layer."""
    return 4.0 * len(wanted.layers) * sizes.width**2


READINGS: Mapping[str, ReadingKind] = {
    # Moments of hidden states inside of layers.
    "layers": ReadingKind(_layers, lambda n, w: 1.3 * n.fit, _moments),
    "first tokens": ReadingKind(_first_tokens, lambda n, w: 1500.0, _moments),
    "shift curvature": ReadingKind(
        _shift_curvature,
        lambda n, w: 6e4,
        lambda s, w: len(w.layers) * _factor(s.hidden),
        backward=True,
    ),
    "shifts": ReadingKind(
        _shifts,
        lambda n, w: 3.5 * n.fit * len(w.answer_tokens),
        lambda s, w: 0.0,
        backward=True,
    ),
    "answer starts": ReadingKind(
        _answer_starts, lambda n, w: 1.3 * (n.fit + n.preserved + n.heldout), _moments
    ),
    "answer shifts": ReadingKind(
        _answer_shifts,
        lambda n, w: 3.5 * n.fit * len(w.answer_tokens),
        lambda s, w: 0.0,
        backward=True,
    ),
    "curvature": ReadingKind(
        _curvature,
        lambda n, w: 25e3,
        lambda s, w: sum(_factor(s.hidden) + _factor(rows) for rows in s.gates),
        backward=True,
    ),
    "gates": ReadingKind(
        _gates,
        lambda n, w: 3.5 * n.fit,
        lambda s, w: sum(4.0 * s.hidden * rows for rows in s.gates),
        backward=True,
    ),
}
"""By the name that a method's `needs` give; read in this order."""


def benign_texts(base: LoadedModel) -> list[Encoded]:
    """Neutral texts that scales are not calibrated on: an edit that is aimed at changing them
    least would seem to do less harm than it does."""
    neutral = encode_neutral(
        base, "calibration", skip=REPORTED.neutral_each, max_tokens=BENIGN_TOKENS
    )
    return list(neutral.texts)


def encode_texts(source: Source, max_tokens: int) -> Texts:
    """The texts that methods are fitted on, and those that are held out.

    Raises:
        InvalidRequest: a text cannot be encoded.
    """

    def encoded(items: Sequence[Item]) -> list[Encoded]:
        return encode(source.model.loaded, items, max_tokens=max_tokens, chat=source.chat)

    def labels(undesired: Sequence[Item], desired: Sequence[Item]) -> Tensor:
        return torch.tensor([UNDESIRED] * len(undesired) + [DESIRED] * len(desired))

    fit, heldout = source.splits.fit, source.splits.heldout
    return Texts(
        fit=encoded([*fit.undesired, *fit.desired]),
        labels=labels(fit.undesired, fit.desired),
        heldout=encoded([*heldout.undesired, *heldout.desired]),
        heldout_labels=labels(heldout.undesired, heldout.desired),
    )
