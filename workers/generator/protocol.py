"""The interface of engines."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from models_store.schemas.estimates import Estimate, EstimateRequest, ProbeRequest, ProbeScores
from models_store.schemas.generation import GenerationLine, GenerationRequest

Line = GenerationLine


class TextEngine(Protocol):
    """Generates text for requests."""

    @property
    def base_models(self) -> tuple[str, ...]:
        """Ids of the loaded base models."""

    @property
    def serves(self) -> tuple[str, ...] | None:
        """Ids of the base models that it can serve; None: any."""

    @property
    def busy(self) -> int:
        """Choices that are running or wait."""

    async def begin(self, request: GenerationRequest) -> AsyncGenerator[Line]:
        """Start a request; the lines of its choices come interleaved.

        Closing the iterator early cancels the rest.

        Raises:
            InvalidRequest, BaseModelUnavailable, NotFound, CorruptArtifact, Unavailable: the
                request cannot be served.
        """

    def close(self) -> None:
        """Stop; unfinished requests end with an error."""


class TextReader(Protocol):
    """Reads texts with a base model before an edit is made of them."""

    def estimate(self, request: EstimateRequest) -> Estimate: ...

    def probe(self, request: ProbeRequest) -> ProbeScores: ...
