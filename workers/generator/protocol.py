"""What a generator needs of an engine, whichever it is."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from models_store.schemas.estimates import Estimate, EstimateRequest, ProbeRequest, ProbeScores
from models_store.schemas.generation import GenerationLine, GenerationRequest

Line = GenerationLine


class TextEngine(Protocol):
    """Answers requests with lines."""

    @property
    def base_models(self) -> tuple[str, ...]:
        """Ids of those that it holds now."""

    @property
    def serves(self) -> tuple[str, ...] | None:
        """Ids of those that it can be asked of; None: any."""

    @property
    def busy(self) -> int:
        """Choices that are under way or wait."""

    async def begin(self, request: GenerationRequest) -> AsyncGenerator[Line]:
        """Take a request; what it comes to is told line by line, in the order of nobody.

        Closing the iterator early gives the rest up.

        Raises:
            InvalidRequest, BaseModelUnavailable, NotFound, CorruptArtifact, Unavailable: it
                cannot be answered.
        """

    def close(self) -> None:
        """Stop; those that are not done are told so."""


class TextReader(Protocol):
    """Looks at texts before an edit is made of them."""

    def estimate(self, request: EstimateRequest) -> Estimate: ...

    def probe(self, request: ProbeRequest) -> ProbeScores: ...
