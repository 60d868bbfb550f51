"""What methods are fitted on: texts as the model reads them, and statistics of them, each once.

Everything is read of the model that the edit goes on top of; see `Source.on_top`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from pydantic import JsonValue
from torch import Tensor

from models_store.errors import EditFailed, InvalidRequest, ScalpelError
from models_store.schemas.items import Item
from models_store.schemas.methods import (
    Attribution,
    Bias,
    Conditional,
    FixedMethod,
    Natural,
    NaturalBias,
)
from models_store.weights.architectures import MatrixKey
from workers.evaluation.damage.damage import REPORTED
from workers.evaluation.damage.neutral import encode_neutral
from workers.evaluation.data.splits import Spared, Splits, spared_items
from workers.evaluation.progress import Parts, Progress, span
from workers.making.cache import Cache
from workers.runtime.loading import BaseModel
from workers.runtime.reading.answer_starts import Answers, answer_starts
from workers.runtime.reading.benign import BENIGN_VERSION, benign_statistics
from workers.runtime.reading.extract import features
from workers.runtime.reading.gradients import GateReadings, gate_keys, gate_readings
from workers.runtime.reading.residuals import FIRST_TOKENS_VERSION, bias_statistics, first_tokens
from workers.runtime.reading.shifts import SHIFTS_VERSION, shift_curvature, shift_gradients
from workers.runtime.tokens import Encoded, encode
from workers.surgery.curvature import Curvature
from workers.surgery.methods import bias, natural_bias
from workers.surgery.methods.bias import FirstTokens, LayerFit, LayerStatistics
from workers.surgery.methods.conditional import AnswerStarts
from workers.surgery.moments import Moment, moment_from_tensors
from workers.surgery.probe import DESIRED, UNDESIRED, Probe, ProbeSettings
from workers.surgery.terms import Mixture

BENIGN_TOKENS = 160
"""Neutral texts are cut there when the curvature is read."""
_Writer = Bias | NaturalBias | Conditional
"""Methods that write into `down_proj`."""


@dataclass(frozen=True, eq=False)
class Source:
    """What an edit is made from."""

    base: BaseModel
    splits: Splits
    chat: bool
    """Prompts pass through the chat template."""
    on_top: Mixture
    """Edits that are on the model while the new one is fitted."""
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
class _Reading:
    """Something to be read of the model."""

    users: tuple[str, ...]
    """Types of the methods that need it."""
    weight: float
    """The time that it takes, in tokens read, about."""
    read: Callable[[Progress], None]


class Material:
    """Read once for all methods that are tried; each takes from it what it needs."""

    texts: Texts
    features: Tensor
    """fp32 `[texts, hidden]`: of the fit texts, then of those held out."""
    layers: Mapping[int, LayerStatistics]
    """Of the layers that `bias` and `natural_bias` write into."""
    first_tokens: Mapping[int, FirstTokens]
    shifts: Mapping[int | None, Mapping[int, Tensor]]
    """Gradients at the outputs of `down_proj`, by layer, for each number of answer tokens."""
    answer_starts: Mapping[int, AnswerStarts]
    """Of the layers that `conditional` writes into."""
    answer_shifts: Mapping[int | None, Mapping[int, Tensor]]
    """As `shifts`, of what is added where answers start."""
    shift_curvature: Mapping[int, Moment]
    curvature: Mapping[MatrixKey, Curvature]
    gates: GateReadings

    def __init__(
        self,
        source: Source,
        methods: Sequence[FixedMethod],
        cache: Cache,
        progress: Progress,
    ) -> None:
        """Read all that the methods need of the model, which must run as the one that is edited.

        A method that cannot be had here, such as one that needs the gates of routed experts,
        leaves its reason in `failures` and does not stop the others.

        Raises:
            InvalidRequest: a text cannot be encoded.
        """
        self.source = source
        self.failures: dict[str, ScalpelError] = {}
        """By type of method."""
        self.probes: dict[ProbeSettings, Probe] = {}
        """Those that were trained so far."""
        self._fitted_layers: dict[tuple[int, float], LayerFit] = {}
        self._cache = cache
        self._base = source.base
        self._max_tokens = max(method.max_tokens for method in methods)
        self.texts = _encode(source, self._max_tokens)
        fit, heldout = (float(sum(map(len, own))) for own in (self.texts.fit, self.texts.heldout))
        wanted = self._wanted(methods, fit, heldout)
        weights = {name: reading.weight for name, reading in wanted.items()}
        parts = Parts({"features": fit + heldout, **weights}, progress)
        with parts.part("features") as share:
            self._read_features(share)
        for name, reading in wanted.items():
            users = reading.users
            with parts.part(name) as share:
                if all(user in self.failures for user in users):
                    continue
                try:
                    reading.read(share)
                except (InvalidRequest, EditFailed) as error:
                    self.failures.update(dict.fromkeys(users, error))

    @property
    def fitted_features(self) -> Tensor:
        return self.features[: len(self.texts.fit)]

    @property
    def heldout_features(self) -> Tensor:
        return self.features[len(self.texts.fit) :]

    def bias_layer(self, layer: int, ridge: float) -> LayerFit:
        """What `bias` can write into a layer; several edits share it.

        Raises:
            EditFailed: see `fit_layer`.
        """
        name = (layer, ridge)
        if name not in self._fitted_layers:
            self._fitted_layers[name] = bias.fit_layer(
                self.layers[layer], self.first_tokens[layer], ridge
            )
        return self._fitted_layers[name]

    def _wanted(
        self, methods: Sequence[FixedMethod], fit: float, heldout: float
    ) -> dict[str, _Reading]:
        """By name; `fit` and `heldout` are tokens."""
        return {
            **self._of_writers(methods, fit),
            **self._of_shifts(methods, fit),
            **self._of_conditions(methods, fit, heldout),
            **self._of_gates(methods, fit),
        }

    def _of_writers(self, methods: Sequence[FixedMethod], fit: float) -> dict[str, _Reading]:
        """What methods need that write into `down_proj`."""
        wanted: dict[str, _Reading] = {}
        means = [one for one in methods if isinstance(one, Bias | NaturalBias)]
        if means:
            layers = _all_written(means, self._base.layers)
            read_layers = partial(self._read_layers, layers)
            wanted["layers"] = _Reading(_types(means), 1.3 * fit, read_layers)
        writers = [one for one in methods if isinstance(one, _Writer)]
        if writers:
            written = _all_written(writers, self._base.layers)
            read_firsts = partial(self._read_first_tokens, written)
            wanted["first tokens"] = _Reading(_types(writers), 1500.0, read_firsts)
        curved = [one for one in methods if isinstance(one, NaturalBias | Conditional)]
        if curved:
            layers = _all_written(curved, self._base.layers)
            read_curvature = partial(self._read_shift_curvature, layers)
            wanted["shift curvature"] = _Reading(_types(curved), 6e4, read_curvature)
        return wanted

    def _of_shifts(self, methods: Sequence[FixedMethod], fit: float) -> dict[str, _Reading]:
        natural = [one for one in methods if isinstance(one, NaturalBias)]
        if not natural:
            return {}
        layers = _all_written(natural, self._base.layers)
        starts = list(dict.fromkeys(one.answer_tokens for one in natural))
        read = partial(self._read_shifts, layers, starts)
        return {"shifts": _Reading(_types(natural), 3.5 * fit * len(starts), read)}

    def _of_conditions(
        self, methods: Sequence[FixedMethod], fit: float, heldout: float
    ) -> dict[str, _Reading]:
        conditional = [one for one in methods if isinstance(one, Conditional)]
        if not conditional:
            return {}
        layers = _all_written(conditional, self._base.layers)
        starts = list(dict.fromkeys(one.answer_tokens for one in conditional))
        spared = spared_items(self.source.preserve, self.source.seed)
        more = (len(spared.fit) + len(spared.heldout)) / max(1, len(self.texts.fit))
        users = _types(conditional)
        read_starts = partial(self._read_answer_starts, layers, spared)
        read_shifts = partial(self._read_answer_shifts, layers, starts)
        return {
            "answer starts": _Reading(users, 1.3 * (fit * (1 + more) + heldout), read_starts),
            "answer shifts": _Reading(users, 3.5 * fit * len(starts), read_shifts),
        }

    def _of_gates(self, methods: Sequence[FixedMethod], fit: float) -> dict[str, _Reading]:
        gated = [one for one in methods if isinstance(one, Natural | Attribution)]
        if not gated:
            return {}
        layers = sorted({layer for one in gated for layer in gate_layers(one, self._base.layers)})
        users = _types(gated)
        return {
            "curvature": _Reading(users, 25e3, partial(self._read_curvature, layers)),
            "gates": _Reading(users, 3.5 * fit, partial(self._read_gates, layers)),
        }

    def _read_features(self, progress: Progress) -> None:
        texts = [*self.texts.fit, *self.texts.heldout]
        self.features = features(self._base, texts, progress=progress)

    def _read_layers(self, layers: Sequence[int], progress: Progress) -> None:
        found = bias_statistics(
            self._base, self.texts.desired, self.texts.undesired, layers, progress=progress
        )
        self.layers = {one.layer: one for one in found}

    def _read_first_tokens(self, layers: Sequence[int], progress: Progress) -> None:
        def made(missing: Sequence[int]) -> dict[int, dict[str, Tensor]]:
            found = first_tokens(self._base, missing)
            return {
                layer: {"fitted": one.fitted, "checked": one.checked}
                for layer, one in found.items()
            }

        keys: dict[int, JsonValue] = {layer: [FIRST_TOKENS_VERSION, layer] for layer in layers}
        found = self._cache.each("first tokens", keys, made)
        self.first_tokens = {
            layer: FirstTokens(tensors["fitted"], tensors["checked"])
            for layer, tensors in found.items()
        }

    def _read_curvature(self, layers: Sequence[int], progress: Progress) -> None:
        texts, spelled = self._benign()

        def made(missing: Sequence[MatrixKey]) -> dict[MatrixKey, dict[str, Tensor]]:
            found = benign_statistics(
                self._base, texts, layers=[key.layer for key in missing], progress=progress
            )
            return {key: curvature.to_tensors() for key, curvature in found.items()}

        keys: dict[MatrixKey, JsonValue] = {
            key: [BENIGN_VERSION, list(key), spelled] for key in gate_keys(self._base, layers)
        }
        self.curvature = {
            key: Curvature.from_tensors(tensors)
            for key, tensors in self._cache.each("curvature", keys, made).items()
        }

    def _read_shift_curvature(self, layers: Sequence[int], progress: Progress) -> None:
        texts, spelled = self._benign()

        def made(missing: Sequence[int]) -> dict[int, dict[str, Tensor]]:
            found = shift_curvature(self._base, texts, missing, progress=progress)
            return {layer: moment.to_tensors() for layer, moment in found.items()}

        keys: dict[int, JsonValue] = {layer: [SHIFTS_VERSION, layer, spelled] for layer in layers}
        self.shift_curvature = {
            layer: moment_from_tensors(tensors)
            for layer, tensors in self._cache.each("shift curvature", keys, made).items()
        }

    def _benign(self) -> tuple[list[Encoded], list[JsonValue]]:
        """Texts that curvature is read from, and what names them in keys of the cache."""
        texts = benign_texts(self._base)
        return texts, [[*text.ids, text.prompt_length] for text in texts]

    def _read_shifts(
        self, layers: Sequence[int], starts: Sequence[int | None], progress: Progress
    ) -> None:
        self.shifts = self._gradients(layers, starts, progress)

    def _read_answer_starts(
        self, layers: Sequence[int], spared: Spared, progress: Progress
    ) -> None:
        fitted, unseen = (
            encode(self._base, items, max_tokens=self._max_tokens, chat=self.source.chat)
            for items in (spared.fit, spared.heldout)
        )
        found = answer_starts(
            self._base,
            Answers(self.texts.fit, fitted),
            Answers(self.texts.heldout, unseen),
            layers,
            progress=progress,
        )
        self.answer_starts = {one.layer: one for one in found}

    def _read_answer_shifts(
        self, layers: Sequence[int], starts: Sequence[int], progress: Progress
    ) -> None:
        self.answer_shifts = self._gradients(layers, starts, progress, at_answer_starts=True)

    def _gradients(
        self,
        layers: Sequence[int],
        starts: Sequence[int | None],
        progress: Progress,
        *,
        at_answer_starts: bool = False,
    ) -> dict[int | None, dict[int, Tensor]]:
        """By number of answer tokens."""
        return {
            tokens: shift_gradients(
                self._base,
                [text.start(tokens) for text in self.texts.desired],
                [text.start(tokens) for text in self.texts.undesired],
                layers,
                at_answer_starts=at_answer_starts,
                progress=span(progress, number / len(starts), (number + 1) / len(starts)),
            )
            for number, tokens in enumerate(starts)
        }

    def _read_gates(self, layers: Sequence[int], progress: Progress) -> None:
        self.gates = gate_readings(
            self._base,
            self.texts.desired,
            self.texts.undesired,
            layers=layers,
            progress=progress,
        )


def _types(methods: Sequence[FixedMethod]) -> tuple[str, ...]:
    return tuple(sorted({method.type for method in methods}))


def _all_written(methods: Sequence[_Writer], layers: int) -> list[int]:
    """The layers that any of them writes into."""
    return sorted({layer for method in methods for layer in written_layers(method, layers)})


def written_layers(method: _Writer, layers: int) -> Sequence[int]:
    """The layers whose `down_proj` a method writes into, of a model with so many layers."""
    if method.layers is not None:
        return method.layers
    if isinstance(method, Bias):
        return bias.default_layers(layers)
    return natural_bias.default_layers(layers)


def gate_layers(method: Natural | Attribution, layers: int) -> Sequence[int]:
    """The layers whose gates a method edits, of a model with so many layers."""
    named = method.layers if isinstance(method, Natural) else None
    return range(layers) if named is None else named


def benign_texts(base: BaseModel) -> list[Encoded]:
    """Neutral texts that scales are not calibrated on: an edit that is aimed at changing them
    least would seem to do less harm than it does."""
    neutral = encode_neutral(
        base, "calibration", skip=REPORTED.neutral_each, max_tokens=BENIGN_TOKENS
    )
    return list(neutral.texts)


def _encode(source: Source, max_tokens: int) -> Texts:
    def encoded(items: Sequence[Item]) -> list[Encoded]:
        return encode(source.base, items, max_tokens=max_tokens, chat=source.chat)

    def labels(undesired: Sequence[Item], desired: Sequence[Item]) -> Tensor:
        return torch.tensor([UNDESIRED] * len(undesired) + [DESIRED] * len(desired))

    fit, heldout = source.splits.fit, source.splits.heldout
    return Texts(
        fit=encoded([*fit.undesired, *fit.desired]),
        labels=labels(fit.undesired, fit.desired),
        heldout=encoded([*heldout.undesired, *heldout.desired]),
        heldout_labels=labels(heldout.undesired, heldout.desired),
    )
