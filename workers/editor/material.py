"""What methods are fitted on: texts as the model reads them, and statistics of them, each once.

Everything is read of the model that the edit goes on top of; see `Source.on_top`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from pydantic import JsonValue
from torch import Tensor

from models_store.architectures import MatrixKey
from models_store.errors import EditFailed, InvalidRequest, ScalpelError
from models_store.items import Item
from models_store.methods import Attribution, Bias, Conditional, FixedMethod, Natural, NaturalBias
from workers.editor.cache import Cache
from workers.evaluation.damage import REPORTED
from workers.evaluation.neutral import encode_neutral
from workers.evaluation.progress import Parts, Progress, span
from workers.evaluation.splits import Splits
from workers.runtime.beginnings import Answers, beginnings
from workers.runtime.benign import BENIGN_VERSION, benign_statistics
from workers.runtime.extract import features
from workers.runtime.gradients import GateReadings, gate_keys, gate_readings
from workers.runtime.loading import BaseModel
from workers.runtime.residuals import FIRST_TOKENS_VERSION, bias_statistics, first_tokens
from workers.runtime.shifts import SHIFTS_VERSION, shift_curvature, shift_gradients
from workers.runtime.tokens import Encoded, encode
from workers.surgery.curvature import Curvature
from workers.surgery.methods import bias, natural_bias
from workers.surgery.methods.bias import FirstTokens, LayerFit, LayerStatistics
from workers.surgery.methods.conditional import Beginnings
from workers.surgery.moments import Moment, moment_from_tensors
from workers.surgery.probe import DESIRED, UNDESIRED, Probe, ProbeSettings
from workers.surgery.terms import Mixture

BENIGN_TOKENS = 160
"""Neutral texts are cut there when the curvature is read."""
_Writer = Bias | NaturalBias | Conditional
"""Methods that write into `down_proj`."""
_Reader = Callable[[Progress], None]
_UNSEEN_EVERY = 4
"""Of the texts to preserve, one in so many is kept to see what of an edit it feels."""


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
    preserve: list[Encoded]

    @property
    def undesired(self) -> list[Encoded]:
        return self.fit[: int((self.labels == UNDESIRED).sum())]

    @property
    def desired(self) -> list[Encoded]:
        return self.fit[len(self.undesired) :]


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
    beginnings: Mapping[int, Beginnings]
    """Of the layers that `conditional` writes into."""
    beginning_shifts: Mapping[int, Mapping[int, Tensor]]
    """As `shifts`, of what is added where answers begin."""
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
        """Read all that the methods need; the weights must be those that are edited.

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
        self.texts = _encode(source, max(method.max_tokens for method in methods))
        wanted = self._wanted(methods)
        parts = Parts({name: weight for name, (_, weight, _) in wanted.items()}, progress)
        for name, (users, _, reader) in wanted.items():
            with parts.part(name) as share:
                if not any(user in self.failures for user in users):
                    try:
                        reader(share)
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
        self, methods: Sequence[FixedMethod]
    ) -> dict[str, tuple[tuple[str, ...], float, _Reader]]:
        """By name: the methods that need it, its time (in tokens read, about) and its reader."""
        depth = self._base.layers
        fit = float(sum(map(len, self.texts.fit)))
        heldout = float(sum(map(len, self.texts.heldout)))
        wanted: dict[str, tuple[tuple[str, ...], float, _Reader]] = {
            "features": ((), fit + heldout, self._read_features)
        }
        means = [method for method in methods if isinstance(method, Bias | NaturalBias)]
        if means:
            of_means = _all_written(means, depth)
            wanted["layers"] = (
                _types(means),
                1.3 * fit,
                lambda share: self._read_layers(of_means, share),
            )
        writers = [
            method for method in methods if isinstance(method, Bias | NaturalBias | Conditional)
        ]
        if writers:
            written = _all_written(writers, depth)
            wanted["first tokens"] = (
                _types(writers),
                1500.0,
                lambda _: self._read_first_tokens(written),
            )
        natural = [method for method in methods if isinstance(method, NaturalBias)]
        conditional = [method for method in methods if isinstance(method, Conditional)]
        bent: list[NaturalBias | Conditional] = [*natural, *conditional]
        if bent:
            of_bends = _all_written(bent, depth)
            wanted["shift curvature"] = (
                _types(bent),
                6e4,
                lambda share: self._read_bends(of_bends, share),
            )
        if natural:
            of_shifts = _all_written(natural, depth)
            starts = list(dict.fromkeys(method.answer_tokens for method in natural))
            wanted["shifts"] = (
                _types(natural),
                3.5 * fit * len(starts),
                lambda share: self._read_shifts(of_shifts, starts, share),
            )
        if conditional:
            of_conditions = _all_written(conditional, depth)
            firsts = list(dict.fromkeys(method.answer_tokens for method in conditional))
            spared = float(sum(map(len, self.texts.preserve)))
            wanted["beginnings"] = (
                _types(conditional),
                1.3 * (fit + heldout + spared),
                lambda share: self._read_beginnings(of_conditions, share),
            )
            wanted["beginning shifts"] = (
                _types(conditional),
                3.5 * fit * len(firsts),
                lambda share: self._read_beginning_shifts(of_conditions, firsts, share),
            )
        gated = [method for method in methods if isinstance(method, Natural | Attribution)]
        if gated:
            users = tuple(sorted({method.type for method in gated}))
            gates = sorted({layer for method in gated for layer in gate_layers(method, depth)})
            wanted["curvature"] = (users, 25e3, lambda share: self._read_curvature(gates, share))
            wanted["gates"] = (users, 3.5 * fit, lambda share: self._read_gates(gates, share))
        return wanted

    def _read_features(self, progress: Progress) -> None:
        texts = [*self.texts.fit, *self.texts.heldout]
        self.features = features(self._base, texts, progress=progress)

    def _read_layers(self, layers: Sequence[int], progress: Progress) -> None:
        found = bias_statistics(
            self._base, self.texts.desired, self.texts.undesired, layers, progress=progress
        )
        self.layers = {one.layer: one for one in found}

    def _read_first_tokens(self, layers: Sequence[int]) -> None:
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
        texts = benign_texts(self._base)
        spelled: list[JsonValue] = [[*text.ids, text.prompt_length] for text in texts]

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

    def _read_bends(self, layers: Sequence[int], progress: Progress) -> None:
        texts = benign_texts(self._base)
        spelled: list[JsonValue] = [[*text.ids, text.prompt_length] for text in texts]

        def made(missing: Sequence[int]) -> dict[int, dict[str, Tensor]]:
            found = shift_curvature(self._base, texts, missing, progress=progress)
            return {layer: moment.to_tensors() for layer, moment in found.items()}

        keys: dict[int, JsonValue] = {layer: [SHIFTS_VERSION, layer, spelled] for layer in layers}
        self.shift_curvature = {
            layer: moment_from_tensors(tensors)
            for layer, tensors in self._cache.each("shift curvature", keys, made).items()
        }

    def _read_shifts(
        self, layers: Sequence[int], starts: Sequence[int | None], progress: Progress
    ) -> None:
        self.shifts = {
            tokens: shift_gradients(
                self._base,
                [text.start(tokens) for text in self.texts.desired],
                [text.start(tokens) for text in self.texts.undesired],
                layers,
                progress=span(progress, number / len(starts), (number + 1) / len(starts)),
            )
            for number, tokens in enumerate(starts)
        }

    def _read_beginnings(self, layers: Sequence[int], progress: Progress) -> None:
        spared = self.texts.preserve
        unseen = spared[_UNSEEN_EVERY - 1 :: _UNSEEN_EVERY]
        fitted = [text for number, text in enumerate(spared, start=1) if number % _UNSEEN_EVERY]
        found = beginnings(
            self._base,
            Answers(self.texts.fit, fitted),
            Answers(self.texts.heldout, unseen),
            layers,
            progress=progress,
        )
        self.beginnings = {one.layer: one for one in found}

    def _read_beginning_shifts(
        self, layers: Sequence[int], starts: Sequence[int], progress: Progress
    ) -> None:
        self.beginning_shifts = {
            tokens: shift_gradients(
                self._base,
                [text.start(tokens) for text in self.texts.desired],
                [text.start(tokens) for text in self.texts.undesired],
                layers,
                beginnings=True,
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
        preserve=encoded(source.preserve),
    )
