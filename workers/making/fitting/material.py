"""What methods are fitted on: everything that any of them needs of the model, read once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from models_store.errors import EditFailed, InvalidRequest, ScalpelError
from models_store.registry import function
from models_store.schemas.method_base import FixedMethod
from workers import progress
from workers.making.cache import Cache
from workers.making.fitting.readings import (
    READINGS,
    Passes,
    ReadingInputs,
    Texts,
    Wanted,
    encode_texts,
    reading_tokens,
    wanted_by,
)
from workers.making.fitting.source import Source
from workers.runtime.loading import LoadedModel
from workers.runtime.reading.extract import MeanStates
from workers.surgery.fitted import FittedEdit
from workers.surgery.probe import Probe, ProbeSettings, fit_probe

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Material:
    """Read once for all methods that are tried; each takes from it what it needs."""

    source: Source
    texts: Texts
    features: Tensor
    """fp32 `[texts, hidden]`: of the fit texts, then of those held out."""
    readings: Mapping[str, Any]
    """By the names that methods need them by."""
    failures: Mapping[str, ScalpelError]
    """Why a method cannot be fitted, by its type."""
    _shared: dict[Hashable, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, source: Source, methods: Sequence[FixedMethod], cache: Cache) -> Material:
        """Read all that the methods need of the model.

        A method that cannot be had here, such as one that needs the gates of routed experts,
        leaves its reason in `failures` and does not stop the others.

        Raises:
            InvalidRequest: a text cannot be encoded.
        """
        loaded = source.model.loaded
        max_tokens = max(method.max_tokens for method in methods)
        texts = encode_texts(source, max_tokens)
        wanted = wanted_by(methods, loaded.layers)
        inputs = ReadingInputs(source, texts, max_tokens, cache)
        counts = inputs.counts
        of_base = {
            name: READINGS[name].tokens(counts, need)
            for name, need in wanted.items()
            if READINGS[name].of_model is not None
        }
        begun = {name: READINGS[name].begin_tokens for name in wanted}
        apart = sum(of_base.values()) + sum(begun.values())
        all_tokens = reading_tokens(counts, wanted)
        progress.plan({**begun, "texts": all_tokens - apart, **of_base})
        passes = Passes()
        features = [
            passes.add(part, MeanStates(loaded, len(part))) for part in (texts.fit, texts.heldout)
        ]
        finish: dict[str, Callable[[], Any]] = {}
        readings: dict[str, Any] = {}
        failures: dict[str, ScalpelError] = {}
        for name, need in wanted.items():
            with progress.step(name, begun[name]), _noted(failures, need):
                finish[name] = READINGS[name].begin(inputs, need, passes)
        # Read beside the weights, as edits are served: half precision would round edits away.
        with source.model.active():
            with progress.step("texts"):
                passes.run(loaded)
            for name, finished in finish.items():
                with progress.step(name, of_base.get(name, 0.0)), _noted(failures, wanted[name]):
                    if any(user not in failures for user in wanted[name].users):
                        readings[name] = finished()
        pooled = torch.cat([reading.pooled for reading in features])
        return cls(source, texts, pooled, readings, failures)

    def __getitem__(self, name: str) -> Any:
        """A reading that a method needs."""
        return self.readings[name]

    @property
    def base(self) -> LoadedModel:
        return self.source.model.loaded

    @property
    def fitted_features(self) -> Tensor:
        return self.features[: len(self.texts.fit)]

    @property
    def heldout_features(self) -> Tensor:
        return self.features[len(self.texts.fit) :]

    def probe(self, settings: ProbeSettings) -> Probe:
        """The probe on the fit texts, trained once for all that want it with these settings."""
        return self.once(
            settings,
            lambda: fit_probe(self.fitted_features, self.texts.labels, settings, self.source.seed),
        )

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What several methods compute alike."""
        if key not in self._shared:
            self._shared[key] = make()
        return cast(T, self._shared[key])

    def fitted(self, method: FixedMethod) -> FittedEdit:
        """Fit a method; the weights must be those of the model that is edited, and nothing is run.

        Raises:
            InvalidRequest, EditFailed: the method has nothing to write, here or with these
                settings.
        """
        failure = self.failures.get(method.type)
        if failure is not None:
            raise failure
        fitted = cast(FittedEdit, function(method.fit)(self, method))
        return replace(fitted, methods=(method,))


@contextmanager
def _noted(failures: dict[str, ScalpelError], need: Wanted) -> Iterator[None]:
    """Note what stops the methods that need a reading, and go on."""
    try:
        yield
    except (InvalidRequest, EditFailed) as error:
        failures.update(dict.fromkeys(need.users, error))
