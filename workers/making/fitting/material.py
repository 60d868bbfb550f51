"""What methods are fitted on: everything that any of them needs of the model, read once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar, cast

from torch import Tensor

from models_store.errors import EditFailed, InvalidRequest, ScalpelError
from models_store.registry import function
from models_store.schemas.method import FixedMethod
from workers.evaluation.progress import Parts, Progress
from workers.making.cache import Cache
from workers.making.fitting.readings import (
    READINGS,
    Reader,
    Source,
    encode_texts,
    wanted_by,
)
from workers.runtime.loading import BaseModel
from workers.runtime.reading.extract import features
from workers.surgery.candidate import Candidate
from workers.surgery.probe import Probe, ProbeSettings, fit_probe

T = TypeVar("T")


class Material:
    """Read once for all methods that are tried; each takes from it what it needs."""

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
        max_tokens = max(method.max_tokens for method in methods)
        self.texts = encode_texts(source, max_tokens)
        self._readings: dict[str, Any] = {}
        self._shared: dict[Hashable, Any] = {}
        reader = Reader(source, self.texts, max_tokens, cache)
        wanted = wanted_by(methods, source.base.layers)
        counts = reader.counts
        weights = {name: READINGS[name].tokens(counts, own) for name, own in wanted.items()}
        parts = Parts({"features": counts.fit + counts.heldout, **weights}, progress)
        with parts.part("features") as share:
            every = [*self.texts.fit, *self.texts.heldout]
            self.features = features(source.base, every, progress=share)
            """fp32 `[texts, hidden]`: of the fit texts, then of those held out."""
        for name, own in wanted.items():
            with parts.part(name) as share:
                if all(user in self.failures for user in own.users):
                    continue
                try:
                    self._readings[name] = READINGS[name].read(reader, own, share)
                except (InvalidRequest, EditFailed) as error:
                    self.failures.update(dict.fromkeys(own.users, error))

    def __getitem__(self, name: str) -> Any:
        """A reading that a method needs."""
        return self._readings[name]

    @property
    def base(self) -> BaseModel:
        return self.source.base

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
