"""What can be read of a model alone, whatever an edit is for: made once, and kept in the cache."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Generic, TypeVar

from pydantic import JsonValue
from torch import Tensor

from models_store.weights.architectures import MatrixKey
from workers.evaluation.damage.neutral import encode_neutral
from workers.making.cache import Cache
from workers.making.fitting.shipped import shipped_curvature
from workers.runtime.loading import LoadedModel
from workers.runtime.reading.benign import BENIGN_VERSION, benign_statistics
from workers.runtime.reading.gradients import gate_keys
from workers.runtime.reading.residuals import FIRST_TOKENS_VERSION, first_tokens
from workers.runtime.reading.shifts import SHIFTS_VERSION, shift_curvature
from workers.runtime.tokens import Encoded
from workers.surgery.curvature import Curvature
from workers.surgery.moments import Moment, moment_from_tensors
from workers.surgery.regression import FirstTokens

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
_BENIGN_EACH = 44
"""So many plain texts and as many answers."""
BENIGN_TOKENS = 160
"""Neutral texts are cut there when the curvature is read."""


@dataclass(frozen=True, eq=False)
class ModelInputs:
    """What readings of a model alone are made from."""

    cache: Cache
    """Of the model that is read."""

    @property
    def base(self) -> LoadedModel:
        return self.cache.model.loaded

    @cached_property
    def benign(self) -> list[Encoded]:
        """Texts that curvature is read from."""
        return benign_texts(self.base)


def _nothing(inputs: ModelInputs, layers: Sequence[int]) -> Mapping[Any, Any]:
    return {}


@dataclass(frozen=True)
class ModelReading(Generic[K, T]):
    """Something that is read of the model alone, so that the cache can keep it, part by part."""

    name: str
    keys: Callable[[ModelInputs, Sequence[int]], Mapping[K, JsonValue]]
    """What each part of some layers depends on besides the model."""
    make: Callable[[ModelInputs, Sequence[K]], Mapping[K, dict[str, Tensor]]]
    restore: Callable[[dict[str, Tensor]], T]
    shipped: Callable[[ModelInputs, Sequence[int]], Mapping[K, T]] = _nothing
    """The parts that come with the package."""

    def read(self, inputs: ModelInputs, layers: Sequence[int]) -> dict[K, T]:
        """By part: shipped, from the cache, or made and kept there."""
        shipped = self.shipped(inputs, layers)
        keys = self._keys(inputs, layers, shipped)
        kept = inputs.cache.each(self.name, keys, partial(self.make, inputs))
        return {**shipped, **{part: self.restore(tensors) for part, tensors in kept.items()}}

    def fill(self, inputs: ModelInputs, layers: Sequence[int]) -> None:
        """Have the cache keep all that `read` takes from there.

        Raises:
            InvalidRequest: it cannot be read of this model.
            Unavailable: the store is away.
        """
        keys = self._keys(inputs, layers, self.shipped(inputs, layers))
        inputs.cache.fill(self.name, keys, partial(self.make, inputs))

    def _keys(
        self, inputs: ModelInputs, layers: Sequence[int], shipped: Collection[K]
    ) -> dict[K, JsonValue]:
        keys = self.keys(inputs, layers)
        return {part: key for part, key in keys.items() if part not in shipped}


def _first_token_keys(inputs: ModelInputs, layers: Sequence[int]) -> dict[int, JsonValue]:
    return {layer: [FIRST_TOKENS_VERSION, layer] for layer in layers}


def _make_first_tokens(inputs: ModelInputs, layers: Sequence[int]) -> dict[int, dict[str, Tensor]]:
    return {
        layer: {"fitted": states.fitted, "checked": states.checked}
        for layer, states in first_tokens(inputs.base, layers).items()
    }


def _shift_keys(inputs: ModelInputs, layers: Sequence[int]) -> dict[int, JsonValue]:
    spelled = _spelled(inputs.benign)
    return {layer: [SHIFTS_VERSION, layer, spelled] for layer in layers}


def _make_shifts(inputs: ModelInputs, layers: Sequence[int]) -> dict[int, dict[str, Tensor]]:
    moments = shift_curvature(inputs.base, inputs.benign, layers)
    return {layer: moment.to_tensors() for layer, moment in moments.items()}


def _shipped_shifts(inputs: ModelInputs, layers: Sequence[int]) -> Mapping[int, Moment]:
    return {} if inputs.cache.model.mixture else shipped_curvature(inputs.base, layers)


def _curvature_keys(inputs: ModelInputs, layers: Sequence[int]) -> dict[MatrixKey, JsonValue]:
    spelled = _spelled(inputs.benign)
    return {key: [BENIGN_VERSION, list(key), spelled] for key in gate_keys(inputs.base, layers)}


def _make_curvature(
    inputs: ModelInputs, gates: Sequence[MatrixKey]
) -> dict[MatrixKey, dict[str, Tensor]]:
    layers = [gate.layer for gate in gates]
    statistics = benign_statistics(inputs.base, inputs.benign, layers=layers)
    return {gate: curvature.to_tensors() for gate, curvature in statistics.items()}


FIRST_TOKENS = ModelReading(
    "first tokens",
    _first_token_keys,
    _make_first_tokens,
    lambda tensors: FirstTokens(tensors["fitted"], tensors["checked"]),
)
SHIFT_CURVATURE = ModelReading(
    "shift curvature", _shift_keys, _make_shifts, moment_from_tensors, _shipped_shifts
)
CURVATURE = ModelReading("curvature", _curvature_keys, _make_curvature, Curvature.from_tensors)


def _spelled(texts: Sequence[Encoded]) -> list[JsonValue]:
    """What names texts in keys of the cache."""
    return [[*text.ids, text.prompt_length] for text in texts]


def benign_texts(base: LoadedModel) -> list[Encoded]:
    """Neutral texts that scales are not calibrated on: an edit that is aimed at changing them
    least would seem to do less harm than it does."""
    neutral = encode_neutral(base, "curvature", each=_BENIGN_EACH, max_tokens=BENIGN_TOKENS)
    return list(neutral.texts)
