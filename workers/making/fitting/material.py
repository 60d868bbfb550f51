"""What methods are fitted on: everything that any of them needs of the model, read once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from torch import Tensor

from models_store.errors import EditFailed, InvalidRequest, ScalpelError
from models_store.registry import function
from models_store.schemas.method_base import FixedMethod
from workers import progress
from workers.making.cache import Cache
from workers.making.fitting.readings import (
    READINGS,
    ReadingInputs,
    Source,
    Texts,
    encode_texts,
    wanted_by,
)
from workers.runtime.loading import LoadedModel
from workers.runtime.reading.extract import features
from workers.surgery.candidate import Candidate
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
        """Read all that the methods need of the model, which must run as the one that is edited.

        A method that cannot be had here, such as one that needs the gates of routed experts,
        leaves its reason in `failures` and does not stop the others.

        Raises:
            InvalidRequest: a text cannot be encoded.
        """
        loaded = source.model.loaded
        max_tokens = max(method.max_tokens for method in methods)
        texts = encode_texts(source, max_tokens)
        inputs = ReadingInputs(source, texts, max_tokens, cache)
        wanted = wanted_by(methods, loaded.layers)
        counts = inputs.counts
        weights = {name: READINGS[name].tokens(counts, need) for name, need in wanted.items()}
        progress.plan({"features": counts.fit + counts.heldout, **weights})
        with progress.step("features"):
            read_features = features(loaded, [*texts.fit, *texts.heldout])
        readings: dict[str, Any] = {}
        failures: dict[str, ScalpelError] = {}
        for name, need in wanted.items():
            with progress.step(name):
                if all(user in failures for user in need.users):
                    continue
                try:
                    readings[name] = READINGS[name].read(inputs, need)
                except (InvalidRequest, EditFailed) as error:
                    failures.update(dict.fromkeys(need.users, error))
        return cls(source, texts, read_features, readings, failures)

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

    def fitted(self, method: FixedMethod) -> Candidate:
        """Fit a method; the weights must be those of the model that is edited, and nothing is run.

        Raises:
            InvalidRequest, EditFailed: the method has nothing to write, here or with these
                settings.
        """
        failure = self.failures.get(method.type)
        if failure is not None:
            raise failure
        return cast(Candidate, function(method.fit)(self, method))
