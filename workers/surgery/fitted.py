"""What a method is given and what it makes: readings of a model, and an edit still to be scaled."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from torch import Tensor

from models_store.schemas.method_base import FixedMethod
from models_store.weights.architectures import Architecture, MatrixKey
from workers.surgery.probe import Probe, ProbeSettings
from workers.surgery.terms import Term, scaled

T = TypeVar("T")


class Weights(Protocol):
    """The weights of the model that is edited; nothing is run while a method is fitted."""

    @property
    def layers(self) -> int: ...

    @property
    def architecture(self) -> Architecture: ...

    def matrix(self, key: MatrixKey) -> Tensor:
        """A logical matrix, `[out, in]`."""
        ...


class Readings(Protocol):
    """What was read for all methods that are fitted together."""

    @property
    def base(self) -> Weights: ...

    def __getitem__(self, name: str, /) -> Any:
        """A reading that the method's `needs` name; see `workers.making.fitting.readings`."""
        ...

    def probe(self, settings: ProbeSettings) -> Probe:
        """The probe on the fit texts, trained once for all that want it with these settings."""
        ...

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What several methods compute alike."""
        ...


@dataclass(frozen=True, eq=False)
class FittedEdit:
    """An edit at scale 1, which means something else for every method."""

    method: str
    """Type of the method; of a pair both, such as `natural+bias`."""
    label: str
    """Method and place in words."""
    terms: Sequence[Term]
    guess: float
    """A scale to start the calibration from."""
    details: Mapping[str, Any]
    """JSON: what the receipt shows of the fit."""
    alpha: float | None = None
    """Of `model_surgery`, at scale 1."""
    relative_alpha: float | None = None
    felt_kl: float = 0.0
    """Estimate of the KL at scale 1 where the edit is felt; not 0 where what is measured does not
    feel it, as of `conditional`."""
    methods: tuple[FixedMethod, ...] = ()
    """With their settings; of a pair both."""

    def at(self, scale: float) -> list[Term]:
        """The terms at another scale."""
        return scaled(self.terms, scale)


def pair(
    first: FittedEdit, second: FittedEdit, scales: tuple[float, float], *, guess: float = 0.5
) -> FittedEdit:
    """Both edits at their scales; scaled further they keep their proportion.

    Args:
        guess: see `FittedEdit`; by default for two that each use up all that is allowed.
    """
    return FittedEdit(
        method=f"{first.method}+{second.method}",
        label=f"{first.label} with {second.label}",
        terms=[*first.at(scales[0]), *second.at(scales[1])],
        guess=guess,
        details={
            "parts": [
                {"label": part.label, "scale": scale, **part.details}
                for part, scale in zip((first, second), scales, strict=True)
            ]
        },
        methods=(*first.methods, *second.methods),
    )
